"""Each SQL statement of the lease protocol, as the simulated PostgreSQL executes it.

The transactions themselves are the product's own: they send their statements here. A statement
that is not listed fails loudly, so the list cannot fall behind unnoticed; that each one means the
same as in PostgreSQL is what `python -m bench.capacity validate` compares.
"""

from uuid import UUID

from bench.capacity.books import Books, Grant, LeaseRow, SliceRow, WorkerRow
from bench.capacity.lease_statements import view
from bench.capacity.sql import (
    Handler,
    LockKey,
    Parameters,
    Rows,
    Transaction,
    find,
    row_lock,
    statement,
)

__all__ = ["find"]  # With all that it shall find.


def _leases_of_worker(books: Books, parameters: Parameters) -> list[LockKey]:
    return [LockKey("lease", key) for key in sorted(books.open_by_worker[parameters[0]])]


def _listed_leases(_: Books, parameters: Parameters) -> list[LockKey]:
    return [LockKey("lease", key) for key in parameters[0]]


_VIEW = "SELECT lease.id, lease.organization_id, lease.state,"

# --- Workers -------------------------------------------------------------------------------------


@statement("LISTEN tollgate")
def listen(_: Transaction, __: Parameters) -> Rows:
    return []


@statement("INSERT INTO billing_worker (id, node, pid,")
def worker_register(transaction: Transaction, parameters: Parameters) -> int:
    worker_id, _, _, ttl = parameters
    transaction.kind = "renew"
    workers = transaction.books.workers
    if worker_id not in workers:
        row = WorkerRow(id=worker_id, expires_at=transaction.at + ttl)
        transaction.changes.insert(workers, worker_id, row)
    return 1


@statement("UPDATE billing_worker SET expires_at =", locks=row_lock("worker", 2))
def worker_renew(transaction: Transaction, parameters: Parameters) -> Rows:
    ttl, _, worker_id = parameters
    transaction.kind = "renew"
    worker = transaction.books.workers.get(worker_id)
    if worker is None or worker.state != "live":
        return []
    transaction.changes.put(worker, "expires_at", transaction.at + ttl)
    return [(worker.shipped_offset,)]


@statement("SELECT 1 FROM billing_worker", locks=row_lock("worker", 0, exclusive=False))
def worker_alive(transaction: Transaction, parameters: Parameters) -> Rows:
    worker = transaction.books.workers.get(parameters[0])
    return [(1,)] if worker is not None and worker.state == "live" else []


@statement("SELECT state, shipped_offset FROM billing_worker", locks=row_lock("worker", 0))
def worker_end(transaction: Transaction, parameters: Parameters) -> Rows:
    transaction.kind = "finish"
    worker = transaction.books.workers.get(parameters[0])
    return [] if worker is None else [(worker.state, worker.shipped_offset)]


@statement("SELECT state FROM billing_worker", locks=row_lock("worker", 0))
def worker_state(transaction: Transaction, parameters: Parameters) -> Rows:
    worker = transaction.books.workers.get(parameters[0])
    return [] if worker is None else [(worker.state,)]


@statement("UPDATE billing_worker SET state = 'complete'", locks=row_lock("worker", 1))
def worker_complete(transaction: Transaction, parameters: Parameters) -> int:
    transaction.changes.put(transaction.books.workers[parameters[1]], "state", "complete")
    return 1


@statement("SELECT pg_try_advisory_xact_lock(%s)")
def sweep_turn(transaction: Transaction, _: Parameters) -> Rows:
    transaction.kind = "sweep"
    return [(True, transaction.at)]


@statement("UPDATE billing_worker SET state = 'expired'")
def workers_expire(transaction: Transaction, _: Parameters) -> int:
    due = [
        worker
        for worker in transaction.books.workers.values()
        if worker.state == "live" and worker.expires_at < transaction.at
    ]
    for worker in due:
        transaction.changes.put(worker, "state", "expired")
    return len(due)


@statement("SELECT id FROM billing_worker WHERE state = 'expired'")
def workers_overdue(transaction: Transaction, parameters: Parameters) -> Rows:
    return [
        (worker.id,)
        for worker in transaction.books.workers.values()
        if worker.state == "expired" and worker.expires_at + parameters[0] < transaction.at
    ]


@statement("UPDATE billing_worker SET state = 'lost'", locks=row_lock("worker", 0))
def worker_lose(transaction: Transaction, parameters: Parameters) -> int:
    worker_id, retain = parameters
    worker = transaction.books.workers[worker_id]
    if worker.state != "expired" or worker.expires_at + retain >= transaction.at:
        return 0
    transaction.kind = "lost"
    transaction.changes.put(worker, "state", "lost")
    transaction.changes.put(worker, "was_lost", True)
    return 1


# --- Wallets and grants --------------------------------------------------------------------------


@statement("SELECT strict, strict AND NOT strict_always, balance", locks=row_lock("wallet", 0))
def wallet_lock(transaction: Transaction, parameters: Parameters) -> Rows:
    transaction.organizations.add(parameters[0])
    if transaction.kind == "other":
        transaction.kind = "none"
    wallet = transaction.books.wallets.get(parameters[0])
    return [] if wallet is None else [(wallet.strict, False, wallet.balance, wallet.debt)]


@statement("SELECT organization_id FROM billing_wallet WHERE short_at >")
def wallets_short(transaction: Transaction, parameters: Parameters) -> Rows:
    since = transaction.at - parameters[0]
    return [(w.organization_id,) for w in transaction.books.wallets.values() if w.short_at > since]


@statement(
    "UPDATE billing_wallet SET short_at = clock_timestamp() WHERE organization_id = %s",
    locks=row_lock("wallet", 0),
)
def wallet_short(transaction: Transaction, parameters: Parameters) -> int:
    organization_id, seconds = parameters
    transaction.kind = "short"
    wallet = transaction.books.wallets[organization_id]
    if transaction.at - seconds <= wallet.short_at <= transaction.at:
        return 0
    transaction.changes.put(wallet, "short_at", transaction.at)
    return 1


@statement("SELECT pg_notify(%s, %s)", ending="pg_notify(%s, %s)")
def notify(transaction: Transaction, parameters: Parameters) -> Rows:
    transaction.payloads.append(parameters[1])
    return [("",)]


@statement("SELECT pg_notify(%s, %s) FROM billing_wallet", ending="interval '2 seconds'")
def notify_short(transaction: Transaction, parameters: Parameters) -> Rows:
    _, payload, organization_id = parameters
    if transaction.books.wallets[organization_id].short_at <= transaction.at - 2:
        return []
    transaction.payloads.append(payload)
    return [("",)]


@statement("UPDATE billing_wallet SET balance_nano_usd =", locks=row_lock("wallet", 2))
def wallet_add(transaction: Transaction, parameters: Parameters) -> int:
    balance, debt, organization_id = parameters
    wallet = transaction.books.wallets[organization_id]
    transaction.changes.add(wallet, "balance", balance)
    transaction.changes.add(wallet, "debt", debt)
    return 1


def _with_money(transaction: Transaction, organization_id: int) -> list[Grant]:
    return [grant for grant in transaction.books.grants[organization_id] if grant.free > 0]


@statement("SELECT coalesce(sum(free_nano_usd), 0)::bigint FROM billing_grant")
def available(transaction: Transaction, parameters: Parameters) -> Rows:
    return [(sum(grant.free for grant in _with_money(transaction, parameters[0])),)]


@statement("SELECT id, free_nano_usd FROM billing_grant", ending="ORDER BY id FOR UPDATE")
def grants_due(_: Transaction, __: Parameters) -> Rows:
    return []  # None of the simulated grants expires.


@statement("SELECT id, free_nano_usd, expires_at, priority FROM billing_grant")
def grants_free(transaction: Transaction, parameters: Parameters) -> Rows:
    return [(grant.id, grant.free, None, 0) for grant in _with_money(transaction, parameters[0])]


def _grants_add(signs: dict[str, int]) -> Handler:
    def handler(transaction: Transaction, parameters: Parameters) -> int:
        for grant_id, amount in zip(*parameters, strict=True):
            for column, sign in signs.items():
                grant = transaction.books.grant[grant_id]
                transaction.changes.add(grant, column, sign * amount)
        return len(parameters[0])

    return handler


for _signs in (
    {"free": -1, "leased": 1},
    {"leased": -1, "free": 1},
    {"leased": -1, "burnt": 1},
):
    _columns = ", ".join(
        f"{column}_nano_usd = {column}_nano_usd + {sign} * part.amount"
        for column, sign in _signs.items()
    )
    statement(f"UPDATE billing_grant SET {_columns} FROM unnest")(_grants_add(_signs))


@statement("INSERT INTO billing_ledgerentry")
def post(transaction: Transaction, parameters: Parameters) -> int:
    _, _, _, reason, accounts, amounts = parameters
    transaction.kind = reason if transaction.kind in ("none", "short") else transaction.kind
    transaction.changes.count(transaction.books.postings, reason, 1)
    for account, amount in zip(accounts, amounts, strict=True):
        transaction.changes.count(transaction.books.ledger, account, amount)
    return len(accounts)


# --- Leases --------------------------------------------------------------------------------------


@statement(_VIEW, ending="WHERE lease.id = %s FOR UPDATE OF lease", locks=row_lock("lease", 0))
def lease_view(transaction: Transaction, parameters: Parameters) -> Rows:
    lease = transaction.books.leases.get(parameters[0])
    return [] if lease is None else [view(transaction, lease)]


@statement(_VIEW, ending="lease.state = 'open'")
def leases_of_worker(transaction: Transaction, parameters: Parameters) -> Rows:
    opened = transaction.books.open_by_worker[parameters[0]]
    return [view(transaction, lease) for lease in opened.values()]


@statement(
    _VIEW, ending="state = 'open' ORDER BY lease.id FOR UPDATE OF lease", locks=_leases_of_worker
)
def leases_to_close(transaction: Transaction, parameters: Parameters) -> Rows:
    opened = transaction.books.open_by_worker[parameters[0]]
    return [view(transaction, lease) for lease in opened.values()]


@statement("SELECT DISTINCT organization_id FROM billing_lease")
def organizations_of(transaction: Transaction, parameters: Parameters) -> Rows:
    opened = transaction.books.open_by_worker[parameters[0]].values()
    return [(number,) for number in sorted({lease.organization_id for lease in opened})]


@statement("SELECT coalesce(sum(granted_nano_usd - spent_nano_usd), 0)::bigint FROM billing_lease")
def leased_elsewhere(transaction: Transaction, parameters: Parameters) -> Rows:
    organization_id, lease_id = parameters
    opened = transaction.books.open_by_organization[organization_id].values()
    return [(sum(lease.granted - lease.spent for lease in opened if lease.id != lease_id),)]


@statement("INSERT INTO billing_lease (id, worker_id,", locks=row_lock("lease", 0))
def lease_open(transaction: Transaction, parameters: Parameters) -> int:
    lease_id, worker_id, organization_id, age = parameters
    books, changes = transaction.books, transaction.changes
    if lease_id in books.leases:
        return 0
    lease = LeaseRow(
        id=lease_id,
        worker_id=worker_id,
        organization_id=organization_id,
        usable_until=transaction.at + age,
    )
    changes.insert(books.leases, lease_id, lease)
    changes.insert(books.open_by_organization[organization_id], lease_id, lease)
    changes.insert(books.open_by_worker[worker_id], lease_id, lease)
    return 1


@statement(
    "UPDATE billing_lease SET granted_nano_usd = granted_nano_usd + %s, version = version + 1,",
    locks=row_lock("lease", 2),
)
def lease_grow(transaction: Transaction, parameters: Parameters) -> int:
    amount, _, lease_id, version = parameters
    lease = transaction.books.leases[lease_id]
    if lease.version != version:
        return 0
    transaction.changes.add(lease, "granted", amount)
    transaction.changes.add(lease, "version", 1)
    return 1


@statement(
    "UPDATE billing_lease SET granted_nano_usd = granted_nano_usd - %s,", locks=row_lock("lease", 1)
)
def lease_return(transaction: Transaction, parameters: Parameters) -> int:
    amount, lease_id = parameters
    lease = transaction.books.leases[lease_id]
    transaction.changes.add(lease, "granted", -amount)
    transaction.changes.add(lease, "version", 1)
    return 1


@statement("UPDATE billing_lease SET state = 'closed'", locks=row_lock("lease", 0))
def lease_closed(transaction: Transaction, parameters: Parameters) -> int:
    (lease_id,) = parameters
    books, changes = transaction.books, transaction.changes
    lease = books.leases[lease_id]
    transaction.freed.append(lease)
    changes.put(lease, "state", "closed")
    changes.put(lease, "granted", lease.spent)
    changes.add(lease, "version", 1)
    changes.delete(books.open_by_organization[lease.organization_id], lease_id)
    changes.delete(books.open_by_worker[lease.worker_id], lease_id)
    return 1


@statement("INSERT INTO billing_leaseslice")
def slices_append(transaction: Transaction, parameters: Parameters) -> int:
    lease_id, _, grant_ids, amounts = parameters
    books, changes = transaction.books, transaction.changes
    lease = books.leases[lease_id]
    for grant_id, amount in zip(grant_ids, amounts, strict=True):
        books.slices_made += 1
        number = books.slices_made
        part = SliceRow(id=number, lease=lease, grant_id=grant_id, amount=amount)
        changes.insert(books.slices, number, part)
        changes.put(lease, "slices", (*lease.slices, part))
    return len(amounts)


@statement("SELECT id, grant_id, amount_nano_usd FROM billing_leaseslice")
def slices_from_the_back(transaction: Transaction, parameters: Parameters) -> Rows:
    lease = transaction.books.leases[parameters[0]]
    return [(part.id, part.grant_id, part.amount) for part in reversed(lease.slices)]


def _slice_drop(transaction: Transaction, part: SliceRow) -> None:
    transaction.changes.delete(transaction.books.slices, part.id)
    left = tuple(other for other in part.lease.slices if other is not part)
    transaction.changes.put(part.lease, "slices", left)


@statement("DELETE FROM billing_leaseslice WHERE id =")
def slice_delete(transaction: Transaction, parameters: Parameters) -> int:
    _slice_drop(transaction, transaction.books.slices[parameters[0]])
    return 1


@statement("UPDATE billing_leaseslice SET amount_nano_usd = amount_nano_usd -")
def slice_shrink(transaction: Transaction, parameters: Parameters) -> int:
    amount, number = parameters
    transaction.changes.add(transaction.books.slices[number], "amount", -amount)
    return 1


@statement("DELETE FROM billing_leaseslice WHERE lease_id =")
def slices_burn(transaction: Transaction, parameters: Parameters) -> Rows:
    parts = transaction.books.leases[parameters[0]].slices
    for part in parts:
        _slice_drop(transaction, part)
    return [(part.grant_id, part.amount) for part in parts]


# --- Shipping ------------------------------------------------------------------------------------


@statement("SELECT shipped_offset FROM billing_worker")
def shipped_offset(transaction: Transaction, parameters: Parameters) -> Rows:
    worker = transaction.books.workers.get(parameters[0])
    return [] if worker is None else [(worker.shipped_offset,)]


@statement("UPDATE billing_worker SET shipped_offset = %s", locks=row_lock("worker", 1))
def offset_move(transaction: Transaction, parameters: Parameters) -> Rows:
    end, worker_id, start = parameters
    transaction.kind = "ship"
    worker = transaction.books.workers.get(worker_id)
    if worker is None or worker.shipped_offset != start:
        return []
    transaction.changes.put(worker, "shipped_offset", end)
    return [(worker.was_lost,)]


@statement("SELECT id, organization_id, state, granted_nano_usd - spent", locks=_listed_leases)
def leases_charged(transaction: Transaction, parameters: Parameters) -> Rows:
    leases: dict[UUID, LeaseRow] = transaction.books.leases
    found = [leases[key] for key in parameters[0] if key in leases]
    return [(row.id, row.organization_id, row.state, row.granted - row.spent) for row in found]


@statement("UPDATE billing_lease SET spent_nano_usd = spent_nano_usd + charge.amount")
def leases_spend(transaction: Transaction, parameters: Parameters) -> int:
    for lease_id, amount in zip(*parameters, strict=True):
        lease = transaction.books.leases[lease_id]
        transaction.changes.add(lease, "spent", amount)
        transaction.changes.add(transaction.books, "charged", amount)
        if lease.state == "closed":
            transaction.changes.add(lease, "granted", amount)
    return len(parameters[0])
