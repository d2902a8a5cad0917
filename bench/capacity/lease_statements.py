"""The statements that grow leases and give them back, many in one go (see `statements`)."""

from typing import Any

from bench.capacity.books import Books, LeaseRow, SliceRow
from bench.capacity.sql import LockKey, Parameters, Rows, Transaction, statement

_VIEW = "SELECT lease.id, lease.organization_id, lease.state,"
# Five changes and an insert in one statement.
_WRITES = 6.0


def _wallets(_: Books, parameters: Parameters) -> list[LockKey]:
    return [LockKey("wallet", key) for key in parameters[1]]


def _leases(_: Books, parameters: Parameters) -> list[LockKey]:
    return [LockKey("lease", key) for key in parameters[0]]


def _row(transaction: Transaction, lease: LeaseRow) -> tuple[Any, ...]:
    return (
        lease.id,
        lease.organization_id,
        lease.state,
        lease.version,
        lease.granted,
        lease.spent,
        lease.usable_until - transaction.at,
    )


def view(transaction: Transaction, lease: LeaseRow) -> tuple[Any, ...]:
    return (
        *_row(transaction, lease),
        transaction.books.wallets[lease.organization_id].strict,
        False,
        None,  # No call of the simulation is bound by a spend limit.
    )


@statement("SELECT organization_id, strict, strict AND NOT strict_always,", locks=_wallets)
def wallets_lock(transaction: Transaction, parameters: Parameters) -> Rows:
    seconds, organizations = parameters
    transaction.organizations.update(organizations)
    if transaction.kind == "other":
        transaction.kind = "none"
    wallets = transaction.books.wallets
    found = [wallets[number] for number in organizations if number in wallets]
    since = transaction.at - seconds
    return [
        (each.organization_id, each.strict, False, each.balance, each.debt, each.short_at > since)
        for each in found
    ]


@statement(
    _VIEW, ending="WHERE lease.id = ANY(%s) ORDER BY lease.id FOR UPDATE OF lease", locks=_leases
)
def leases_lock(transaction: Transaction, parameters: Parameters) -> Rows:
    leases = transaction.books.leases
    return [view(transaction, leases[key]) for key in parameters[0] if key in leases]


@statement("SELECT organization_id, id, free_nano_usd, expires_at, priority,")
def grants_free(transaction: Transaction, parameters: Parameters) -> Rows:
    grants = transaction.books.grants
    return [
        (number, grant.id, grant.free, None, 0, False)
        for number in parameters[0]
        for grant in grants[number]
        if grant.free > 0
    ]


@statement("UPDATE billing_wallet SET short_at = clock_timestamp() WHERE organization_id = ANY(%s)")
def wallets_recall(transaction: Transaction, parameters: Parameters) -> Rows:
    organizations, seconds = parameters
    transaction.kind = "short"
    told = []
    for number in organizations:
        wallet = transaction.books.wallets[number]
        if not transaction.at - seconds <= wallet.short_at <= transaction.at:
            transaction.changes.put(wallet, "short_at", transaction.at)
            told.append((number,))
    return told


@statement("SELECT pg_notify(%s, payload) FROM unnest")
def notify_all(transaction: Transaction, parameters: Parameters) -> Rows:
    transaction.payloads.extend(parameters[1])
    return [("",)] * len(parameters[1])


@statement("SELECT short.lease_id,")
def leased_elsewhere(transaction: Transaction, parameters: Parameters) -> Rows:
    opened = transaction.books.open_by_organization
    return [
        (
            key,
            of,
            sum(lease.granted - lease.spent for lease in opened[of].values() if lease.id != key),
        )
        for key, of in zip(*parameters, strict=True)
    ]


@statement("SELECT pg_notify(%s, 'wallet ' || balance_nano_usd")
def tell_the_short(transaction: Transaction, parameters: Parameters) -> Rows:
    for number in parameters[1]:
        wallet = transaction.books.wallets[number]
        transaction.payloads.append(f"wallet {wallet.balance + wallet.debt} {number}")
    return [("",)] * len(parameters[1])


@statement("WITH granting AS ( UPDATE billing_grant SET free_nano_usd = free", weight=_WRITES)
def grow_or_give(transaction: Transaction, parameters: Parameters) -> Rows:
    return (
        _give(transaction, parameters) if "freed" in parameters else _grow(transaction, parameters)
    )


def _grow(transaction: Transaction, given: dict[str, Any]) -> Rows:
    books, changes = transaction.books, transaction.changes
    transaction.kind = "lease_grow"
    asked = zip(
        given["leases"], given["organizations"], given["versions"], given["amounts"], strict=True
    )
    grown = []
    for lease_id, organization_id, version, amount in asked:
        lease = books.leases.get(lease_id)
        if lease is None:
            lease = _open(transaction, lease_id, given["worker"], organization_id, given["age"])
        elif lease.version != version or lease.state != "open":
            continue
        changes.add(lease, "granted", amount)
        changes.put(lease, "version", version + 1)
        changes.add(books.wallets[organization_id], "balance", -amount)
        _post(transaction, "lease_grow", wallet=-amount, escrow=amount)
        grown.append(lease)
    parts = zip(given["slice_leases"], given["grants"], given["parts"], strict=True)
    for lease_id, grant_id, amount in parts:
        changes.add(books.grant[grant_id], "free", -amount)
        changes.add(books.grant[grant_id], "leased", amount)
        books.slices_made += 1
        lease = books.leases[lease_id]
        part = SliceRow(id=books.slices_made, lease=lease, grant_id=grant_id, amount=amount)
        changes.insert(books.slices, part.id, part)
        changes.put(lease, "slices", (*lease.slices, part))
    return [_row(transaction, lease) for lease in grown]


def _open(
    transaction: Transaction, lease_id: Any, worker_id: Any, organization_id: int, age: float
) -> LeaseRow:
    books, changes = transaction.books, transaction.changes
    lease = LeaseRow(
        id=lease_id,
        worker_id=worker_id,
        organization_id=organization_id,
        usable_until=transaction.at + age,
    )
    changes.insert(books.leases, lease_id, lease)
    changes.insert(books.open_by_organization[organization_id], lease_id, lease)
    changes.insert(books.open_by_worker[worker_id], lease_id, lease)
    return lease


def _post(transaction: Transaction, reason: str, **amounts: int) -> None:
    transaction.changes.count(transaction.books.postings, reason, 1)
    for account, amount in amounts.items():
        transaction.changes.count(transaction.books.ledger, account, amount)


@statement("SELECT slice.lease_id, slice.id, slice.grant_id, slice.amount_nano_usd,")
def slices_of(transaction: Transaction, parameters: Parameters) -> Rows:
    return [
        (key, part.id, part.grant_id, part.amount, False)
        for key in parameters[0]
        for part in reversed(transaction.books.leases[key].slices)
    ]


def _give(transaction: Transaction, given: dict[str, Any]) -> Rows:
    books, changes = transaction.books, transaction.changes
    if transaction.kind == "none":  # Else it belongs to the end of a worker.
        transaction.kind = "lease_close" if any(given["closes"]) else "lease_return"
    for key, freed, burnt in zip(given["grants"], given["freed"], given["burnt"], strict=True):
        changes.add(books.grant[key], "free", freed)
        changes.add(books.grant[key], "leased", -freed - burnt)
        changes.add(books.grant[key], "burnt", burnt)
    for number, balance, debt in zip(
        given["organizations"], given["balances"], given["debts"], strict=True
    ):
        changes.add(books.wallets[number], "balance", balance)
        changes.add(books.wallets[number], "debt", debt)
    for key, amount in zip(given["slices"], given["parts"], strict=True):
        _cut(transaction, books.slices[key], amount)
    for account, amount in zip(given["accounts"], given["amounts"], strict=True):
        changes.count(books.ledger, account, amount)
    for reason in dict(zip(given["postings"], given["reasons"], strict=True)).values():
        changes.count(books.postings, reason, 1)
    changed = []
    for key, amount, closes in zip(
        given["leases"], given["lessened"], given["closes"], strict=True
    ):
        lease = books.leases[key]
        changes.add(lease, "granted", -amount)
        changes.add(lease, "version", 1)
        if closes:
            _close(transaction, lease)
        changed.append(lease)
    return [_row(transaction, lease) for lease in changed]


def _cut(transaction: Transaction, part: SliceRow, amount: int) -> None:
    if part.amount > amount:
        transaction.changes.add(part, "amount", -amount)
        return
    transaction.changes.delete(transaction.books.slices, part.id)
    left = tuple(other for other in part.lease.slices if other is not part)
    transaction.changes.put(part.lease, "slices", left)


def _close(transaction: Transaction, lease: LeaseRow) -> None:
    books, changes = transaction.books, transaction.changes
    transaction.freed.append(lease)
    changes.put(lease, "state", "closed")
    changes.delete(books.open_by_organization[lease.organization_id], lease.id)
    changes.delete(books.open_by_worker[lease.worker_id], lease.id)
