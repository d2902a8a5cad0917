"""The invariants of money, checked in SQL on the running system. Each finding is a breach.

All checks run in one repeatable-read transaction: they see one moment, however long they take.
"""

import datetime as dt
import time
from dataclasses import asdict, dataclass

from django.db import connection, transaction

from billing.models import AuditRun
from billing.pricing import BUCKETS

FINDINGS_SHOWN = 20
# Key by key: three times as fast as unpacking the object of each of millions of rows.
_TOKENS = " + ".join(f"coalesce((units->>'{bucket}')::bigint, 0)" for bucket in BUCKETS)
RUNS_KEPT = 24 * 31


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    invariant: str
    subject: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A query that returns (subject, detail) for each breach, and nothing when all is well."""

    invariant: str
    query: str


CHECKS = (
    Check(
        invariant="the legs of a posting sum to zero",
        query="""
            SELECT posting::text, sum(amount_nano_usd)::text FROM billing_ledgerentry
             GROUP BY posting HAVING sum(amount_nano_usd) <> 0""",
    ),
    Check(
        invariant="a wallet's balance is the sum of its entries",
        query="""
            SELECT w.organization_id::text, format('balance %%s, entries %%s',
                   w.balance_nano_usd, coalesce(e.total, 0))
              FROM billing_wallet w
              LEFT JOIN (SELECT organization_id, sum(amount_nano_usd) AS total
                           FROM billing_ledgerentry WHERE account = 'wallet'
                          GROUP BY organization_id) e USING (organization_id)
             WHERE w.balance_nano_usd <> coalesce(e.total, 0)""",
    ),
    Check(
        invariant="a wallet's balance is the free parts of its grants less its debt",
        query="""
            SELECT w.organization_id::text, format('balance %%s, free %%s, debt %%s',
                   w.balance_nano_usd, coalesce(g.free, 0), w.debt_nano_usd)
              FROM billing_wallet w
              LEFT JOIN (SELECT organization_id, sum(free_nano_usd) AS free
                           FROM billing_grant GROUP BY organization_id) g USING (organization_id)
             WHERE w.balance_nano_usd <> coalesce(g.free, 0) - w.debt_nano_usd""",
    ),
    Check(
        invariant="escrow is what open leases were granted",
        query="""
            SELECT organization_id::text, format('escrow %%s, leases %%s',
                   coalesce(e.total, 0), coalesce(l.granted, 0))
              FROM (SELECT organization_id, sum(amount_nano_usd) AS total FROM billing_ledgerentry
                     WHERE account = 'escrow' GROUP BY organization_id) e
              FULL JOIN (SELECT organization_id, sum(granted_nano_usd) AS granted
                           FROM billing_lease WHERE state = 'open'
                          GROUP BY organization_id) l USING (organization_id)
             WHERE coalesce(e.total, 0) <> coalesce(l.granted, 0)""",
    ),
    Check(
        invariant="an open lease was granted what its slices hold",
        query="""
            SELECT l.id::text, format('granted %%s, slices %%s', l.granted_nano_usd,
                   coalesce(s.total, 0))
              FROM billing_lease l
              LEFT JOIN (SELECT lease_id, sum(amount_nano_usd) AS total
                           FROM billing_leaseslice GROUP BY lease_id) s ON s.lease_id = l.id
             WHERE coalesce(s.total, 0) <> CASE l.state WHEN 'open' THEN l.granted_nano_usd
                                                        ELSE 0 END""",
    ),
    Check(
        invariant="the leased part of a grant is in the slices of open leases",
        query="""
            SELECT g.id::text, format('leased %%s, slices %%s', g.leased_nano_usd,
                   coalesce(s.total, 0))
              FROM billing_grant g
              LEFT JOIN (SELECT grant_id, sum(amount_nano_usd) AS total
                           FROM billing_leaseslice GROUP BY grant_id) s ON s.grant_id = g.id
             WHERE g.leased_nano_usd <> coalesce(s.total, 0)""",
    ),
    Check(
        invariant="a lease has spent the sum of its usage records",
        query="""
            SELECT coalesce(l.id, u.lease_id)::text, format('spent %%s, records %%s',
                   coalesce(l.spent_nano_usd, 0), coalesce(u.total, 0))
              FROM billing_lease l
              FULL JOIN (SELECT lease_id, sum(charge_nano_usd) AS total
                           FROM billing_usagerecord GROUP BY lease_id) u ON u.lease_id = l.id
             WHERE coalesce(l.spent_nano_usd, 0) <> coalesce(u.total, 0)""",
    ),
    Check(
        invariant="revenue is what closed leases spent and re-ratings changed",
        query="""
            SELECT organization_id::text, format('revenue %%s, closed leases %%s, re-rated %%s',
                   coalesce(e.total, 0), coalesce(l.spent, 0), coalesce(r.total, 0))
              FROM (SELECT organization_id, sum(amount_nano_usd) AS total FROM billing_ledgerentry
                     WHERE account = 'revenue' GROUP BY organization_id) e
              FULL JOIN (SELECT organization_id, sum(spent_nano_usd) AS spent
                           FROM billing_lease WHERE state = 'closed'
                          GROUP BY organization_id) l USING (organization_id)
              FULL JOIN (SELECT line.organization_id, sum(line.collected_nano_usd
                                - coalesce(g.amount_nano_usd, 0)) AS total
                           FROM billing_reratingline line
                           LEFT JOIN billing_grant g ON g.id = line.grant_id
                          GROUP BY line.organization_id) r USING (organization_id)
             WHERE coalesce(e.total, 0) <> coalesce(l.spent, 0) + coalesce(r.total, 0)""",
    ),
    Check(
        invariant="what a re-rating moved is what it changed of its calls",
        query="""
            SELECT line.id::text, format('calls %%s, difference %%s, waived %%s, grant %%s',
                   coalesce(c.total, 0), line.difference_nano_usd, line.waived_nano_usd,
                   g.amount_nano_usd)
              FROM billing_reratingline line
              LEFT JOIN (SELECT line_id, sum(difference_nano_usd) AS total
                           FROM billing_reratedcall GROUP BY line_id) c ON c.line_id = line.id
              LEFT JOIN billing_grant g
                     ON g.id = line.grant_id AND g.organization_id = line.organization_id
             WHERE coalesce(c.total, 0) <> line.difference_nano_usd - line.waived_nano_usd
                OR line.grant_id IS NOT NULL
               AND g.amount_nano_usd IS DISTINCT FROM -line.difference_nano_usd""",
    ),
    Check(
        invariant="a strict wallet owes nothing",
        query="""
            SELECT organization_id::text, debt_nano_usd::text FROM billing_wallet
             WHERE strict AND debt_nano_usd <> 0""",
    ),
    Check(
        invariant="the tokens of a record's buckets add up to its totals",
        query=f"""
            SELECT request_id::text, format('%%s for %%s + %%s', units, prompt_tokens,
                   completion_tokens)
              FROM billing_usagerecord
             WHERE usage_source <> 'none' AND {_TOKENS} <> prompt_tokens + completion_tokens""",  # noqa: S608  Constants.
    ),
    Check(
        invariant="the attempts of a call cost together what it cost upstream",
        query="""
            SELECT r.request_id::text, format('record %%s, attempts %%s',
                   r.upstream_cost_nano_usd, coalesce(a.total, 0))
              FROM billing_usagerecord r
             CROSS JOIN LATERAL (
                   SELECT sum((one->>'upstream_cost_nano_usd')::bigint) AS total
                     FROM jsonb_array_elements(r.attempts) one) a
             WHERE r.attempts IS NOT NULL
               AND r.upstream_cost_nano_usd <> coalesce(a.total, 0)""",
    ),
    Check(
        invariant="a limit's window has leased what open leases hold, and used what others spent",
        query="""
            SELECT coalesce(p.id, l.period_id)::text, format('leased %%s of %%s, used %%s of %%s',
                   p.leased_nano_usd, l.granted, p.used_nano_usd, l.spent)
              FROM billing_spendlimitperiod p
              FULL JOIN (SELECT period_id,
                                coalesce(sum(granted_nano_usd) FILTER (WHERE state = 'open'), 0)
                                    AS granted,
                                coalesce(sum(spent_nano_usd) FILTER (WHERE state = 'closed'), 0)
                                    AS spent
                           FROM billing_lease, unnest(limit_period_ids) AS period_id
                          GROUP BY period_id) l ON l.period_id = p.id
             WHERE (p.leased_nano_usd, p.used_nano_usd)
                   IS DISTINCT FROM (coalesce(l.granted, 0), coalesce(l.spent, 0))""",
    ),
    Check(
        invariant="a limit's window is over by what is gone beyond its cap",
        query="""
            SELECT id::text, format('over %%s, gone %%s of %%s', over_nano_usd,
                   leased_nano_usd + used_nano_usd, cap_nano_usd)
              FROM billing_spendlimitperiod
             WHERE over_nano_usd
                   <> greatest(0, leased_nano_usd + used_nano_usd - cap_nano_usd)""",
    ),
    Check(
        invariant="a lease takes room in one window of each of its own organization's limits",
        query="""
            SELECT lease.id::text, format('windows %%s', lease.limit_period_ids)
              FROM billing_lease lease
              LEFT JOIN billing_spendlimitperiod p ON p.id = ANY(lease.limit_period_ids)
              LEFT JOIN billing_spendlimit l ON l.id = p.limit_id
                                            AND l.organization_id = lease.organization_id
             WHERE lease.limit_period_ids <> '{}'
             GROUP BY lease.id, lease.limit_period_ids
            HAVING count(DISTINCT l.id) <> cardinality(lease.limit_period_ids)""",
    ),
    Check(
        invariant="an ended worker has no open lease",
        query="""
            SELECT l.id::text, format('worker %%s is %%s', w.id, w.state)
              FROM billing_lease l JOIN billing_worker w ON w.id = l.worker_id
             WHERE l.state = 'open' AND w.state IN ('lost', 'complete')""",
    ),
    Check(
        invariant="no open lease outlives its worker's expiry by more than it must",
        query="""
            SELECT l.id::text, format('worker %%s expired at %%s', w.id, w.expires_at)
              FROM billing_lease l JOIN billing_worker w ON w.id = l.worker_id
             WHERE l.state = 'open'
               AND w.expires_at + make_interval(secs => %(retain)s + 60) < now()""",
    ),
    Check(
        invariant="no two prices of a model overlap",
        query="""
            SELECT a.model, format('rows %%s and %%s', a.id, b.id)
              FROM billing_price a JOIN billing_price b
                ON a.model = b.model AND a.id < b.id
               AND tstzrange(a.effective_from, a.effective_to)
                && tstzrange(b.effective_from, b.effective_to)""",
    ),
    Check(
        invariant="a redeemed code is one grant of its organization, worth what its batch says",
        query="""
            SELECT coalesce('grant ' || g.id, 'code ' || c.id),
                   format('grant %%s of %%s, code %%s of %%s', g.amount_nano_usd,
                          g.organization_id, b.amount_nano_usd, c.organization_id)
              FROM (SELECT * FROM billing_grant WHERE kind = 'code') g
              FULL JOIN (SELECT * FROM billing_redemptioncode WHERE redeemed_at IS NOT NULL) c
                ON c.grant_id = g.id
              LEFT JOIN billing_codebatch b ON b.id = c.batch_id
             WHERE (g.organization_id, g.amount_nano_usd)
                   IS DISTINCT FROM (c.organization_id, b.amount_nano_usd)""",
    ),
    Check(
        invariant="refunds of a call are its grants, and no more than its charge",
        query="""
            SELECT r.request_id::text, format('refunds %%s, grants %%s, charge %%s, re-rated %%s',
                   sum(r.amount_nano_usd), sum(g.amount_nano_usd), min(u.charge_nano_usd),
                   min(c.total))
              FROM billing_refund r
              LEFT JOIN billing_grant g ON g.id = r.grant_id
              LEFT JOIN billing_usagerecord u
                     ON u.request_id = r.request_id AND u.organization_id = g.organization_id
              LEFT JOIN LATERAL (
                   SELECT sum(change.difference_nano_usd) AS total
                     FROM billing_reratedcall change
                     JOIN billing_reratingline line ON line.id = change.line_id
                    WHERE change.request_id = r.request_id
                      AND (change.difference_nano_usd < 0 OR line.settled_at IS NOT NULL)) c ON true
             GROUP BY r.request_id
            HAVING sum(r.amount_nano_usd)
                   > coalesce(min(u.charge_nano_usd) + coalesce(min(c.total), 0), 0)
                OR sum(r.amount_nano_usd) <> sum(g.amount_nano_usd)""",
    ),
    Check(
        invariant="a paid payment is one grant of its organization, worth what was ordered",
        query="""
            SELECT p.id::text, format('ordered %%s, granted %%s', p.amount_nano_usd,
                   g.amount_nano_usd)
              FROM billing_payment p LEFT JOIN billing_grant g ON g.id = p.grant_id
             WHERE p.state = 'paid' AND (g.organization_id, g.amount_nano_usd)
                   IS DISTINCT FROM (p.organization_id, p.amount_nano_usd)""",
    ),
    Check(
        invariant="no more is taken back of a payment than was refunded or disputed",
        query="""
            SELECT id::text, format('refunded %%s, disputed %%s, collected %%s, written off %%s',
                   refunded_nano_usd, disputed_nano_usd, collected_nano_usd, written_off_nano_usd)
              FROM billing_payment
             WHERE collected_nano_usd + written_off_nano_usd
                   > least(amount_nano_usd, refunded_nano_usd + disputed_nano_usd)""",
    ),
    Check(
        invariant="what was taken back of a wallet is what its reversals took",
        query="""
            SELECT w.organization_id::text, format('reversed %%s, entries %%s',
                   w.reversed_nano_usd, coalesce(e.total, 0))
              FROM billing_wallet w
              LEFT JOIN (SELECT organization_id, -sum(amount_nano_usd) AS total
                           FROM billing_ledgerentry
                          WHERE account = 'wallet' AND reason = 'reversal'
                          GROUP BY organization_id) e USING (organization_id)
             WHERE w.reversed_nano_usd <> coalesce(e.total, 0)""",
    ),
    Check(
        invariant="no record waits to be set right",
        query="""
            SELECT id::text, reason FROM billing_setasiderecord WHERE resolved_at IS NULL""",
    ),
)


def audit(*, retain_seconds: float) -> list[Finding]:
    """Run every check; an empty list means that each invariant holds."""
    findings: list[Finding] = []
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        for check in CHECKS:
            cursor.execute(check.query, {"retain": retain_seconds})
            findings += [
                Finding(invariant=check.invariant, subject=subject, detail=detail)
                for subject, detail in cursor.fetchmany(FINDINGS_SHOWN)
            ]
    return findings


def audit_run(*, retain_seconds: float, now: dt.datetime) -> AuditRun:
    """Audit, and keep what was found for the console; old runs go."""
    began = time.monotonic()
    findings = audit(retain_seconds=retain_seconds)
    run = AuditRun.objects.create(
        started_at=now,
        duration_ms=int(1000 * (time.monotonic() - began)),
        findings=[asdict(finding) for finding in findings],
    )
    kept = AuditRun.objects.order_by("-started_at").values("pk")[:RUNS_KEPT]
    AuditRun.objects.exclude(pk__in=list(kept.values_list("pk", flat=True))).delete()
    return run
