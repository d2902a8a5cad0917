"""manage.py api_key_issue ORG."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from typing_extensions import override

from accounts.api_keys import DEFAULT_SCOPES, ApiKeyTerms, api_key_issue
from accounts.management.base import Answer, ContractCommand
from accounts.models import ApiKey
from accounts.moments import expiry_parse
from accounts.organizations import organization_get
from accounts.projects import project_get


class Command(ContractCommand):
    help = "Issue an API key. It is shown once and cannot be had again."

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("organization", metavar="ORG", help="The organization's slug.")
        parser.add_argument("--project", help="A project's slug (default: the first project).")
        parser.add_argument("--name", default="", help="What the key is for.")
        parser.add_argument(
            "--expires",
            metavar="WHEN",
            default="never",
            help="30d, 12h, an ISO date or date and time (UTC if it names no zone), or never.",
        )
        parser.add_argument(
            "--models", nargs="+", metavar="M", help="The only models it may call (default: all)."
        )
        parser.add_argument(
            "--scopes",
            nargs="+",
            choices=ApiKey.Scope.values,
            help="What it may do: relay calls, read usage, set alerts (default: relay).",
        )

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        now = timezone.now()
        organization = organization_get(options["organization"])
        project = project_get(organization=organization, slug=options["project"])
        terms = ApiKeyTerms(
            project=project,
            name=options["name"],
            allowed_models=options["models"],
            scopes=options["scopes"] or DEFAULT_SCOPES,
            expires_at=expiry_parse(options["expires"], now=now),
        )
        issued = api_key_issue(terms=terms, actor=self.actor, now=now)
        return {
            "api_key": issued.key,
            "prefix": issued.api_key.prefix,
            "organization": organization.slug,
            "project": project.slug,
        }

    @override
    def sentences(self, answer: Answer) -> list[str]:
        return [
            f"API key for {answer['organization']}/{answer['project']}, shown only now:",
            f"  {answer['api_key']}",
            f"It is listed and revoked as {answer['prefix']}.",
        ]
