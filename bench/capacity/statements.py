"""Each SQL statement of the lease protocol, as the simulated PostgreSQL executes it.

The transactions themselves are the product's own: they send their statements here. A statement
that is not listed fails loudly, so the list cannot fall behind unnoticed; that each one means the
same as in PostgreSQL is what `python -m bench.capacity validate` compares.
"""

from uuid import UUID

from bench.capacity.books import Books, LeaseRow, WorkerRow
from bench.capacity.lease_statements import view
from bench.capacity.sql import (
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


# --- Wallets ------------------------------------------------------------------------------------


@statement("SELECT organization_id, 0 FROM billing_wallet WHERE short_at >")
def wallets_short(transaction: Transaction, parameters: Parameters) -> Rows:
    since, wallets = transaction.at - parameters["age"], transaction.books.wallets.values()
    return [(wallet.organization_id, 0) for wallet in wallets if wallet.short_at > since]


# --- Leases --------------------------------------------------------------------------------------


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
    return [(row.id, row.organization_id, row.state, row.granted - row.spent, []) for row in found]


@statement("UPDATE billing_lease SET spent_nano_usd = spent_nano_usd + charge.amount")
def leases_spend(transaction: Transaction, parameters: Parameters) -> int:
    for lease_id, amount in zip(*parameters, strict=True):
        lease = transaction.books.leases[lease_id]
        transaction.changes.add(lease, "spent", amount)
        transaction.changes.add(transaction.books, "charged", amount)
        if lease.state == "closed":
            transaction.changes.add(lease, "granted", amount)
    return len(parameters[0])
