"""Runs inside `manage.py shell` of the measured Tollgate: prices, money and keys for a bench.

The shell executes the text that is beside the measured code, which may be older than the bench. The
environment names the models and how many organizations there are to be; the last line printed is
JSON.
"""

import json
import os

from django.utils import timezone

from accounts.api_keys import ApiKeyTerms, api_key_issue, api_key_revoke
from accounts.audit_trail import Actor
from accounts.organizations import organization_get
from accounts.projects import project_get
from billing.credit.grants import Credit, grant_credit
from billing.organizations import organization_open
from billing.prices.discounts import discount_set
from billing.prices.services import price_set

NANO = 10**9
actor = Actor(user_id=None, label="bench")
now = timezone.now()
keys = []

for model in os.environ["BENCH_MODELS"].split():
    price_set(
        model=model,
        input_usd="2.5",
        output_usd="10",
        cached_usd="1.25",
        sure=True,
        actor=actor,
        now=now,
    )
for number in range(int(os.environ["BENCH_ORGANIZATIONS"])):
    if number:
        opened = organization_open(name=f"Bench {number}", actor=actor, now=now)
        organization, project = opened.organization, opened.project
    else:
        organization = organization_get("demo")
        project = project_get(organization=organization, slug=None)
    credit = Credit(
        organization_id=organization.pk,
        amount_nano_usd=1_000_000 * NANO,
        expires_at=None,
        reason="",
    )
    grant_credit(credit=credit, actor=actor, now=now)
    terms = ApiKeyTerms(project=project, name="bench")
    keys.append(api_key_issue(terms=terms, actor=actor, now=now).key)
    if not number:
        discount_set(
            fraction_ppm=425_000, organization=organization, model="", actor=actor, now=now
        )
revoked = api_key_issue(terms=terms, actor=actor, now=now)
api_key_revoke(prefix=revoked.api_key.prefix, actor=actor, now=now)
print(json.dumps({"keys": keys, "revoked": revoked.key}))
