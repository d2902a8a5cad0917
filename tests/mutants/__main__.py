"""Breaks the engine on purpose, one rule at a time, and shows that the tests notice.

    python -m tests.mutants [NAME ...]

Each mutant is one edit of one file in a copy of the sources. It is caught when the engine's tests
fail there. Exit status 1 if one survives, or if an edit no longer fits the code.
"""

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
ENGINE = "tests/billing/engine/"
TESTS = tuple(
    ENGINE + name
    for name in (
        "test_rules.py",
        "test_together.py",
        "test_engine.py",
        "test_journal.py",
        "test_durability.py",
    )
)
FORGOTTEN = (ENGINE + "test_rules.py", "tests/faults/test_forgotten_commits.py")
CLOCKS = (ENGINE + "test_rules.py", "tests/faults/test_clocks.py")
LIMITS = (ENGINE + "test_spend_limits.py", ENGINE + "test_limit_months.py")
HANGS_SECONDS = 150
SOURCES = ("accounts", "billing", "console", "gateway", "relay", "tests")


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...] = TESTS


MUTANTS = (
    Mutant(
        "no_fencing",
        "worker.py",
        "if self.retired or now() >= self.fence:",
        "if self.retired:",
    ),
    Mutant(
        "fence_from_answer",
        "worker.py",
        "self.fence = sent_at + self._timing.fence",
        "self.fence = now() + self._timing.fence",
    ),
    Mutant(
        "no_margin", "timing.py", "return self.ttl * (1 - 3 * DRIFT) - self.step", "return self.ttl"
    ),
    Mutant(
        "release_at_expiry",
        "timing.py",
        "return self.max_call * (1 + 3 * DRIFT) + self.step",
        "return 0.0",
    ),
    Mutant(
        "blind_ship",
        "shipping.py",
        ' WHERE id = %s AND shipped_offset = %s"\n        " RETURNING was_lost"',
        ' WHERE id = %s AND %s >= 0"\n        " RETURNING was_lost"',
    ),
    Mutant(
        "finish_unreplayed",
        "transactions.py",
        "    if row[1] != end:\n        return False\n",
        "",
    ),
    Mutant(
        "recall_returns_held",
        "lease_book.py",
        "        amount = lease.free\n        if amount > 0 and lease.version:",
        "        amount = lease.free + lease.held\n        if amount > 0 and lease.version:",
    ),
    Mutant(
        "return_still_used",
        "lease_book.py",
        "            lease.granted -= amount\n",
        "",
    ),
    Mutant(
        "recall_forgotten",
        "lease_book.py",
        "            lease.recalled = True\n            return\n",
        "            return\n",
    ),
    Mutant(
        "no_version",
        "growing.py",
        "if (lease.version if lease else 0) != want.version or (",
        "if (",
    ),
    Mutant(
        "grow_for_the_dead",
        "growing.py",
        "WHERE id = %s AND state = 'live' FOR SHARE",
        "WHERE id = %s FOR SHARE",
    ),
    Mutant(
        "takes_all",
        "funds.py",
        "desired = max(want.minimum_nano_usd, want.desired_nano_usd, available // 4)",
        "desired = available",
    ),
    Mutant(
        "ignore_failed_write",
        "journal.py",
        "            self._mend(position, len(data))\n            raise JournalFailed(str(error))"
        " from error\n",
        "            self.end += len(data)\n            return self.end\n",
    ),
    Mutant(
        "delete_before_shipped",
        "worker.py",
        "return min(self.shipped, oldest.opened_offset) if oldest else self.shipped",
        "return self.journal.end",
    ),
    Mutant(
        "forget_open_calls",
        "worker.py",
        "return min(self.shipped, oldest.opened_offset) if oldest else self.shipped",
        "return self.shipped",
    ),
    Mutant(
        "close_unshipped",
        "lease_book.py",
        "elif lease.held or shipped < lease.last_end:",
        "elif lease.held:",
    ),
    Mutant("no_call_deadline", "worker.py", "late = now() > hold.deadline", "late = False"),
    Mutant(
        "notify_only",
        "growing.py",
        "UPDATE billing_wallet SET short_at = clock_timestamp() WHERE organization_id = ANY(%s)",
        "UPDATE billing_wallet SET short_at = NULL WHERE organization_id = ANY(%s)",
    ),
    Mutant(
        "surplus_unnoticed",
        "lease_book.py",
        "if view.version > lease.version and not lease.busy:",
        "if False:",
    ),
    Mutant(
        "no_roll",
        "lease_book.py",
        "        if at >= lease.usable_until:\n            self._drain(lease)\n"
        "            return None\n",
        "",
    ),
    Mutant(
        "refund_oldest_slice",
        "giving.py",
        ' ORDER BY position DESC",',
        ' ORDER BY position",',
    ),
    Mutant(
        "charge_beyond_a_strict_hold",
        "worker.py",
        "charge = hold.amount_nano_usd if hold.strict else cost_nano_usd",
        "charge = cost_nano_usd",
    ),
    Mutant(
        "read_past_damage",
        "records.py",
        "    if zlib.crc32(payload) != checksum:\n",
        "    if zlib.crc32(payload) == -1:\n",
    ),
    Mutant(
        "give_without_version",
        "giving.py",
        'lease.state != "open" or lease.version != each.version',
        'lease.state != "open"',
    ),
    Mutant(
        "debt_forgotten",
        "giving.py",
        "repaid = min(changes.debts[organization_id], part)",
        "repaid = 0",
    ),
    Mutant(
        "one_purse_spent_twice",
        "funds.py",
        "slices, ends_at = self.purses[want.organization_id].take(amount)",
        "slices, ends_at = Purse(list(self.purses[want.organization_id].grants)).take(amount)",
    ),
    Mutant(
        "all_suffer_for_one",
        "desk.py",
        "if len(asked) == 1:",
        "if asked:",
    ),
    Mutant(
        "forgotten_lease_unnoticed",
        "worker.py",
        "if lease_id := forgotten_lease(self.book.leases, versions, renewal.leases):",
        "if lease_id := None:",
        FORGOTTEN,
    ),
    Mutant(
        "every_clock_is_steady",
        "sweeper.py",
        "return at - self._set_at > timing.grace",
        "return True",
        CLOCKS,
    ),
    Mutant(
        "forgotten_worker_finished",
        "transactions.py",
        "        return end == 0\n",
        "        return True\n",
        FORGOTTEN,
    ),
    Mutant("limit_not_leased", "growing.py", "    if rooms:\n", "    if not rooms:\n", LIMITS),
    Mutant(
        "limit_or_wallet",
        "funds.py",
        "return min(enough) if len(enough) == len(amounts) else None",
        "return max(enough, default=None)",
        LIMITS,
    ),
    Mutant(
        "limit_use_forgotten_at_close",
        "giving.py",
        "        changes.limits[period_id][1] += spent\n",
        "",
        LIMITS,
    ),
    Mutant(
        "limit_never_exceeded",
        "shipping.py",
        "dict.fromkeys(period_ids, (excess, 0))",
        "dict.fromkeys(period_ids, (0, 0))",
        LIMITS,
    ),
    Mutant(
        "limit_spared_late_settlements",
        "shipping.py",
        "dict.fromkeys(period_ids, (0, charge))",
        "dict.fromkeys(period_ids, (0, 0))",
        LIMITS,
    ),
    Mutant(
        "limit_not_in_the_journal",
        "worker.py",
        "            limits=hold.lease.limits,\n",
        "",
        LIMITS,
    ),
    Mutant(
        "limit_window_never_over",
        "growing.py",
        "return taken != {",
        "return not taken and taken != {",
        LIMITS,
    ),
    Mutant(
        "limit_anew_in_another_zone",
        "limit_rooms.py",
        "(p.period_start = running.a OR p.cut_short",
        "(p.period_start = running.a OR false",
        LIMITS,
    ),
    Mutant(
        "limit_lowered_later",
        "lease_book.py",
        "if any(map(lease.takes_of, narrower)):",
        "if not narrower:",
        LIMITS,
    ),
    Mutant(
        "limit_recall_of_others_money_only",
        "lease_book.py",
        "if not limit_id or lease.takes_of(limit_id):",
        "if not limit_id:",
        LIMITS,
    ),
    Mutant(
        "limit_recall_notified_only",
        "limit_rooms.py",
        "UPDATE billing_spendlimitperiod SET short_at = clock_timestamp() WHERE id = ANY(%s)",
        "UPDATE billing_spendlimitperiod SET short_at = NULL WHERE id = ANY(%s)",
        LIMITS,
    ),
)


def caught(mutant: Mutant, folder: Path) -> bool:
    """Whether the tests fail with the mutant. Raises ValueError if its edit does not fit."""
    path = folder / "billing" / "engine" / mutant.file
    source = path.read_text()
    if source.count(mutant.old) != 1:
        raise ValueError(f"the edit of {mutant.name} fits {source.count(mutant.old)} times")
    path.write_text(source.replace(mutant.old, mutant.new))
    try:
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *mutant.tests],
            cwd=folder,
            capture_output=True,
            timeout=HANGS_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return True  # The tests end within seconds where nothing is broken.
    finally:
        path.write_text(source)
    return run.returncode == 1


def main() -> None:
    names = set(sys.argv[1:])
    survived = []
    with tempfile.TemporaryDirectory(prefix="tollgate-mutants-") as name:
        folder = Path(name)
        for source in SOURCES:
            shutil.copytree(
                ROOT / source, folder / source, ignore=shutil.ignore_patterns("node_modules")
            )
        for file in ("manage.py", "pyproject.toml"):
            shutil.copy(ROOT / file, folder / file)
        for mutant in [m for m in MUTANTS if not names or m.name in names]:
            verdict = "caught" if caught(mutant, folder) else "SURVIVED"
            survived += [mutant.name] if verdict == "SURVIVED" else []
            print(f"{verdict:9}{mutant.name}", flush=True)
    if survived:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
