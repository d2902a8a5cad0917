"""F7, F13: memory, descriptors and disks that are used up, and a database that takes no writes."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from uuid import UUID

import psutil

from tests.billing.engine.support import Bank
from tests.faults.books import check_books, check_books_afterwards, records
from tests.faults.conftest import Launch
from tests.faults.customers import Customer, Customers
from tests.faults.journals import settled
from tests.faults.load import Load, Wish, call, callers
from tests.faults.product import Product, gone, kill, until
from tests.faults.scenes import answers, both, served_from_leases, warmed_up
from tests.faults.test_postgres import SHORT, UNAVAILABLE, error_of, told

CALLERS = 16
# More than a segment of PostgreSQL's own log, which must go on: then it is the table that is full.
FULL_BYTES = 20 * 1024 * 1024
UNSHIPPED = 20


async def test_f7_the_kernel_ends_a_session_of_postgres_and_takes_descriptors_away(
    launch: Launch, payers: list[Customer]
) -> None:
    """As when memory runs out: PostgreSQL ends all sessions with the one that was killed."""
    product = await launch()
    async with Load(callers(product.port, CALLERS), payers) as load:
        await load.complete(60)
        server, *sessions = product.postgres()
        kill([session for session in sessions if "tollgate" in " ".join(session.cmdline())][-1:])
        await until(lambda: not {*sessions} & {*product.postgres()}, "new sessions")
        await load.complete(60)
        assert product.postgres()[0] == server
        victim, _ = product.workers()
        # Who is there is served on; who comes anew, by the sibling.
        async with Load(callers(product.port, CALLERS), payers) as newcomers:
            with no_more_descriptors(victim):
                await until(
                    lambda: "Too many open files" in product.log(), "a refusal by the kernel"
                )
                await load.complete(20)
            await newcomers.complete(60)
    print(load.codes, newcomers.codes)
    assert set(load.codes) | set(newcomers.codes) <= {"complete", "429", "502", "503", "broken"}
    replies = [*load.replies, *newcomers.replies]
    await check_books(product, replies)
    await product.stop()
    check_books_afterwards(product, replies)


@contextmanager
def no_more_descriptors(process: psutil.Process) -> Iterator[None]:
    """It keeps those that it has; whoever else wants one is refused by the kernel."""
    _, hard = process.rlimit(psutil.RLIMIT_NOFILE)
    before = process.rlimit(psutil.RLIMIT_NOFILE)
    process.rlimit(psutil.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        process.rlimit(psutil.RLIMIT_NOFILE, before)


async def test_f13_the_database_is_full_and_then_takes_no_writes(
    launch: Launch, customers: Customers
) -> None:
    """Calls go on from the leases; nothing is half done; then all of it ships, once."""
    product = await launch(**SHORT)
    standard, idle = customers["standard"], customers["idle"]
    async with both(product) as groups:
        connections = [first for first, *_ in groups]
        replies = await warmed_up(groups, standard, idle)
        async with full(product):
            await told(connections, ready=True)  # On a busy machine, leases end before it is back.
            with product.bank() as bank:
                while len(waiting(product, bank)) < UNSHIPPED:
                    replies += await served_from_leases(connections, standard)
                assert bank.findings() == []
        with product.bank() as bank:
            await until(lambda: not waiting(product, bank), "the records")
            with read_only(bank):
                await told(connections, ready=False)
                for connection in connections:
                    reply = await call(connection, standard, Wish())
                    assert error_of(reply.answer) == UNAVAILABLE
            await told(connections, ready=True)
            assert bank.number("SELECT count(*) FROM billing_setasiderecord") == 0
        replies += await served_from_leases(connections, standard)
    await check_books(product, replies)
    assert product.alarms() == []
    await product.stop()
    check_books_afterwards(product, replies)


def waiting(product: Product, bank: Bank) -> set[UUID]:
    """What has ended and is in no table yet."""
    return settled(product) - {record.request_id for record in records(bank)}


@asynccontextmanager
async def full(product: Product) -> AsyncIterator[None]:
    """The table of records cannot grow any more: PostgreSQL takes such a limit for a full disk."""
    with product.bank() as bank:
        await until(lambda: bool(records(bank)), "a first record, in the table that calls fill")
        size = grow_table(bank)
    before = product.supervisor.rlimit(psutil.RLIMIT_FSIZE)
    await restarted(product, (size, before[1]))  # Less would not let it recover what was written.
    try:
        yield
    finally:
        await restarted(product, before)


def grow_table(bank: Bank) -> int:
    """A transaction that fails leaves the table as large as it has made it: so many bytes."""
    (table,) = bank.row("SELECT tableoid::regclass::text FROM billing_usagerecord LIMIT 1")
    (columns,) = bank.row(
        "SELECT string_agg(column_name, ', ') FROM information_schema.columns"
        " WHERE table_name = 'billing_usagerecord' AND column_name <> 'request_id'"
    )
    bank.connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
    with bank.connection.transaction(force_rollback=True):
        while bank.number("SELECT pg_relation_size(%s::regclass)", table) < FULL_BYTES:
            bank.connection.execute(
                f"INSERT INTO {table} (request_id, {columns})"
                " SELECT overlay(u.request_id::text PLACING right(gen_random_uuid()::text, 12)"
                f" FROM 25)::uuid, {columns} FROM (SELECT * FROM {table} LIMIT 1) u,"
                " generate_series(1, 5000)"
            )
    return bank.number("SELECT pg_relation_size(%s::regclass)", table)


async def restarted(product: Product, limits: tuple[int, int]) -> None:
    """PostgreSQL is killed, and its next processes may write no larger files than that."""
    product.supervisor.rlimit(psutil.RLIMIT_FSIZE, limits)
    before = product.postgres()
    kill(before)
    await until(lambda: all(map(gone, before)), "PostgreSQL's end")
    await until(lambda: answers(product), "PostgreSQL")


@contextmanager
def read_only(bank: Bank) -> Iterator[None]:
    """As a standby, or a server whose operator has stopped all writes. This session is older."""
    (database,) = bank.row("SELECT current_database()")
    bank.connection.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    bank.drop_other_sessions()
    try:
        yield
    finally:
        bank.connection.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")
        bank.drop_other_sessions()
