"""manage.py audit: check every invariant of money; status 1 if one is broken."""

import json
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from typing_extensions import override

from billing.audit import CHECKS, Finding, audit
from billing.engine import Timing

BREACH = 1


class Command(BaseCommand):
    help = "Check the invariants of wallets, leases, ledger and usage records, on a live system."
    requires_system_checks = ()

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="Answer with one line of JSON.")

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        retain = Timing(max_call=settings.MAX_CALL_SECONDS).retain
        findings = audit(retain_seconds=retain)
        if options["json"]:
            self.stdout.write(json.dumps(_answer(findings)))
        else:
            self.stdout.write("\n".join(_sentences(findings)))
        if findings:
            raise SystemExit(BREACH)


def _answer(findings: list[Finding]) -> dict[str, Any]:
    return {
        "ok": not findings,
        "findings": [f"{f.invariant}: {f.subject}: {f.detail}" for f in findings],
    }


def _sentences(findings: list[Finding]) -> list[str]:
    if not findings:
        return [f"All {len(CHECKS)} invariants hold."]
    return [f"BROKEN: {f.invariant}\n  {f.subject}: {f.detail}" for f in findings]
