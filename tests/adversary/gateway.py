"""A gateway in the test's own event loop: real workers on a real database, real sockets both ways.

Every worker is the data plane as it is in production, behind our HTTP on a port of its own;
several of them on one database are several processes, as far as money goes.
"""

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self, TypeVar
from uuid import UUID

from django.conf import settings as django_settings
from django.db import connection

from accounts.api_keys import ApiKeyTerms, api_key_issue
from accounts.models import Organization
from billing.credit.grants import Credit, grant_credit
from billing.engine import MoneyEngine, Timing
from billing.organizations import organization_open
from billing.prices.services import price_set
from gateway import http
from gateway.http import Limits
from gateway.ports import bind_listener
from relay.application import RelayApplication
from relay.asgi_types import Application, Receive, Scope, Send
from relay.channels.services import NewChannel, channel_add
from relay.configuration import runtime_settings
from relay.models import Channel
from relay.runtime import RuntimeSettings
from relay.simulator.asgi import Simulator
from tests.adversary.process import WorkerProcess
from tests.billing.engine.support import Bank
from tests.factories import ACTOR
from tests.faults.http_client import Answer, Connection
from tests.relay.upstream.support import Script, Upstream

CHAT = "/v1/chat/completions"
# In USD per 1M tokens; half of it is charged, which makes whole numbers of nano-USD a token.
MODEL = "adversary-model"
INPUT_USD, OUTPUT_USD = "2", "8"
INPUT_NANO_USD, OUTPUT_NANO_USD = 1_000, 4_000
# The model of channels that do what a test says. Whatever is sent twice goes to the simulator.
SCRIPTED = "scripted-model"
SIMULATOR_PRIORITY = -1000
USD = 10**9
PATIENCE_SECONDS = 60.0

TIMING = Timing(
    heartbeat=0.25,
    ttl=20.0,
    step=0.5,
    max_call=60.0,
    grace=11.0,
    ship=0.02,
    sync=0.05,
    scan=0.1,
    sweep=0.1,
    idle=10.0,
    recall_wait=0.5,
    refusal_memory=0.2,
    timeout=10.0,  # Whoever else uses this machine, nobody is refused for that.
)

T = TypeVar("T")


def charge_of(prompt_tokens: int, completion_tokens: int) -> int:
    """What a call of MODEL or SCRIPTED costs, in nano-USD."""
    return prompt_tokens * INPUT_NANO_USD + completion_tokens * OUTPUT_NANO_USD


def body_of(text: str = "Hello", *, model: str = MODEL, **members: Any) -> bytes:
    return json.dumps(
        {"model": model, "messages": [{"role": "user", "content": text}], **members}
    ).encode()


def whole_hold_body(*, output_tokens: int = 100) -> tuple[bytes, int]:
    """A call that costs exactly what is held for it, and that amount."""

    def body(prompt_tokens: int) -> bytes:
        knobs = {"prompt_tokens": prompt_tokens, "completion_tokens": output_tokens}
        return body_of(max_tokens=output_tokens, simulate=knobs)

    size = len(body(100))
    assert len(body(size)) == size
    return body(size), charge_of(size, output_tokens)


async def until(condition: Callable[[], T], what: str) -> T:
    """The first truthy answer of the condition."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (answer := condition()):
                await asyncio.sleep(0.005)
            return answer
    except TimeoutError:
        raise AssertionError(f"waited {PATIENCE_SECONDS:g} s in vain for {what}") from None


def operator_leave() -> None:
    connection.close()  # Each thread has its own, found when it is asked for.


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True, kw_only=True)
class Record:
    """A usage record, as far as tests look at it."""

    request_id: UUID
    organization_id: int
    model: str
    channel: str
    credential: str
    route_reason: str
    attempts: list[dict[str, Any]] | None
    stream: bool
    status: int
    outcome: str
    usage_source: str
    flags: list[str]
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    units: dict[str, int]
    price_id: int
    discount_ppm: int
    retry_count: int
    hold_nano_usd: int
    official_cost_nano_usd: int
    charge_nano_usd: int
    upstream_cost_nano_usd: int


@dataclass(frozen=True, kw_only=True)
class Customer:
    """An organization and its key."""

    id: int
    slug: str
    api_key: str


class HttpServer:
    """Our HTTP, as a worker has it, on a port of this event loop."""

    def __init__(self, application: Application) -> None:
        limits = Limits(write_seconds=django_settings.WRITE_SECONDS)
        self.http = http.HttpServer(application, limits=limits)
        self.port = 0

    async def start(self) -> None:
        listener = bind_listener("127.0.0.1", self.port)
        self.port = listener.getsockname()[1]
        await self.http.listen(listener)

    async def stop(self) -> None:
        self.http.shut_down()
        await until(lambda: not self.http.cycles, "the end of the server's calls")
        await self.http.close(0)


async def nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    """What is not the relay's."""
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


class Worker:
    """One serving process of the gateway."""

    def __init__(self, settings: RuntimeSettings) -> None:
        self.application = RelayApplication(nothing_here, settings)
        self._server = HttpServer(self.application)

    async def start(self) -> None:
        await self.application.start()
        assert self.application.problems() == []
        await self._server.start()

    async def stop(self, patience_seconds: float = 0.0) -> None:
        """As a service manager stops it: calls that outlast the patience are cut."""
        await self.application.drain(patience_seconds)
        await self._server.stop()

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def engine(self) -> MoneyEngine:
        return self.application._runtime.engine

    @property
    def held_nano_usd(self) -> int:
        leases = [lease for worker in self.engine._workers for lease in worker.book.leases.values()]
        return sum(lease.held for lease in leases)

    @property
    def open_holds(self) -> int:
        return sum(len(worker.holds) for worker in self.engine._workers)

    @property
    def departures(self) -> int:
        """How many open calls have lost their client, and the gateway knows it."""
        return sum(call.client_left for call in self.application._relaying.open_calls)

    def knows(self, versions: dict[str, int]) -> bool:
        """Whether it goes by these versions of prices, channels and limits, or later ones."""
        runtime = self.application._runtime
        assert runtime.catalog is not None
        return (
            runtime.catalog.version >= versions["prices"]
            and runtime.channels.version >= versions["channels"]
            and runtime.limits.version >= versions["limits"]
        )


class Gateway:
    """An installation: a database, workers, upstreams, and the operator's ways to change it."""

    def __init__(self, *, database_url: str, folder: Path) -> None:
        self.database_url = database_url
        self.folder = folder
        self.journals = folder / "journals"
        self.bank = Bank(database_url)
        self.workers: list[Worker] = []
        self._operator = ThreadPoolExecutor(1, thread_name_prefix="operator")
        self._processes: list[WorkerProcess] = []
        self._scripted: list[Upstream] = []
        self._simulator = Simulator()
        self._simulator_server = HttpServer(self._simulator)

    # --- Life ------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self.journals.mkdir()
        await self._simulator_server.start()
        await self.operate(self._furnish)
        return self

    def _furnish(self) -> None:
        for model in (MODEL, SCRIPTED):
            price_set(
                model=model, input_usd=INPUT_USD, output_usd=OUTPUT_USD, actor=ACTOR, now=now()
            )
        url = f"http://127.0.0.1:{self._simulator_server.port}/v1"
        channel_add(new=NewChannel(name="simulator", base_url=url, credential="any"), actor=ACTOR)
        Channel.objects.filter(name="simulator").update(priority=SIMULATOR_PRIORITY)

    async def __aexit__(self, *_: object) -> None:
        async with AsyncExitStack() as ends:  # All of them, whatever one of them has to say.
            ends.callback(self.bank.connection.close)
            ends.callback(self._operator.shutdown)
            ends.push_async_callback(self.operate, operator_leave)
            ends.push_async_callback(self._simulator_server.stop)
            for worker in self.workers:
                ends.push_async_callback(worker.stop)
            for upstream in self._scripted:
                ends.push_async_callback(upstream.stop)
            for process in self._processes:
                ends.callback(process.kill)

    async def worker(self, *, timing: Timing = TIMING, **changes: Any) -> Worker:
        """Start one more worker, with these of its settings changed."""
        settings = replace(
            runtime_settings(),
            database_url=self.database_url,
            journals=self.journals,
            timing=timing,
            **{"rate_limits": self.folder / "rate-limits", **changes},
        )
        worker = Worker(settings)
        await worker.start()
        self.workers.append(worker)
        return worker

    async def process(self, **environment: str) -> WorkerProcess:
        """Start a worker that can be killed, with further settings in its environment."""
        process = WorkerProcess(
            database_url=self.database_url, folder=self.folder, environment=environment
        )
        self._processes.append(process)
        await process.start()
        return process

    async def stop(self, worker: Worker) -> None:
        self.workers.remove(worker)
        await worker.stop()

    # --- What the operator does ------------------------------------------------------------------

    async def operate(self, action: Callable[[], T]) -> T:
        """What the control plane does: Django's ORM, in a thread, beside the running workers."""
        return await asyncio.get_running_loop().run_in_executor(self._operator, action)

    async def execute(self, statement: str) -> None:
        """Do something to the database that no service does."""

        def run() -> None:
            with connection.cursor() as cursor:
                cursor.execute(statement)

        # Not in this event loop: a worker of it may hold a lock on what is wanted.
        await self.operate(run)

    async def customer(self, balance_nano_usd: int, *, strict: bool = False) -> Customer:
        """A new organization that has paid so much in, and a key of it."""

        def make() -> Customer:
            opened = organization_open(
                name="Customer", quota_nano_usd=0, strict=strict, actor=ACTOR, now=now()
            )
            organization = opened.organization
            if balance_nano_usd:
                credit_nano_usd(organization, balance_nano_usd)
            issued = api_key_issue(
                terms=ApiKeyTerms(project=opened.project), actor=ACTOR, now=now()
            )
            return Customer(id=organization.pk, slug=organization.slug, api_key=issued.key)

        return await self.operate(make)

    async def scripted(self, script: Script, *, name: str = "scripted") -> Upstream:
        """A channel for SCRIPTED that plays the script on every connection, byte by byte."""
        upstream = Upstream(script)
        await upstream.start()
        self._scripted.append(upstream)
        url = f"http://127.0.0.1:{upstream.port}/v1"
        new = NewChannel(name=name, base_url=url, credential="any", models=[SCRIPTED])
        await self.change(lambda: channel_add(new=new, actor=ACTOR))
        return upstream

    async def change(self, action: Callable[[], T]) -> T:
        """Change prices, discounts or channels, and wait until every worker goes by it."""
        done = await self.operate(action)
        rows = self.bank.connection.execute(
            "SELECT topic, version FROM accounts_configurationversion"
        ).fetchall()
        versions: dict[str, int] = dict(rows)
        await until(lambda: all(w.knows(versions) for w in self.workers), "the change's arrival")
        return done

    # --- What customers do -----------------------------------------------------------------------

    async def call(
        self, customer: Customer, body: bytes, *, at: Worker | WorkerProcess | None = None
    ) -> Answer:
        """One whole call on a connection of its own; to the first worker, unless told where."""
        async with Connection((at or self.workers[0]).port) as link:
            return await link.post(CHAT, customer.api_key, body)

    @asynccontextmanager
    async def visit(
        self,
        customer: Customer,
        body: bytes,
        *,
        at: Worker | WorkerProcess | None = None,
        path: str = CHAT,
        kind: str = "application/json",
        length: int | None = None,
    ) -> AsyncIterator["Visitor"]:
        """A call by a client that reads as much as it likes; at the end, it leaves."""
        port = (at or self.workers[0]).port
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
        writer.write(
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {kind}\r\n"
            f"authorization: Bearer {customer.api_key}\r\n"
            f"content-length: {len(body) if length is None else length}\r\n"
            "\r\n".encode()
            + body
        )
        try:
            yield Visitor(reader, writer)
        finally:
            writer.transport.abort()

    # --- What has happened -----------------------------------------------------------------------

    def arrived(self, tag: str | None = None) -> int:
        """How many calls reached the simulator."""
        total: int = self._simulator._recorder.report(tag=tag)["total"]
        return total

    def received(self) -> list[dict[str, Any]]:
        """The bodies of the latest calls that reached the simulator."""
        data = self._simulator._recorder.report(tag=None)["data"]
        return [one["body"] for one in data]

    async def records(self, count: int) -> list[Record]:
        """All usage records, as soon as there are so many; there must not be more."""
        await until(lambda: len(self.recorded()) >= count, f"{count} usage records")
        records = self.recorded()
        assert len(records) == count, records
        return records

    async def record(self) -> Record:
        """The only usage record that there is."""
        (record,) = await self.records(1)
        return record

    def recorded(self) -> list[Record]:
        """All usage records that are in the database by now, oldest first."""
        names = [field.name for field in fields(Record)]
        rows = self.bank.connection.execute(
            f"SELECT {', '.join(names)} FROM billing_usagerecord ORDER BY request_id".encode()
        ).fetchall()
        return [Record(**dict(zip(names, row, strict=True))) for row in rows]

    def balance(self, customer: Customer) -> int:
        return self.bank.balance(customer.id)

    async def idle(self) -> None:
        """Return when no call is open and everything is shipped."""
        engines = [worker.engine for worker in self.workers]
        await until(lambda: not any(worker.open_holds for worker in self.workers), "open calls")
        workers = [worker for engine in engines for worker in engine._workers]
        await until(lambda: all(w.shipped == w.journal.end for w in workers), "unshipped records")

    async def check_books(self) -> None:
        """What must be true of the money, whatever a test did."""
        for process in self._processes:
            process.kill()
        if self._processes:
            await self.worker()  # It settles what they have left.
        await self.idle()
        assert [worker.held_nano_usd for worker in self.workers] == [0] * len(self.workers)
        assert self.bank.findings() == []
        self._check_sums()
        await asyncio.gather(*(worker.stop() for worker in self.workers))
        self.workers.clear()
        assert self.bank.open_leases() == 0
        assert self.bank.findings() == []
        self._check_sums()

    def _check_sums(self) -> None:
        """Each organization: what came in is what is left and what was charged."""
        rows = self.bank.connection.execute(
            "SELECT organization_id, strict, (SELECT coalesce(sum(amount_nano_usd), 0)::bigint"
            "  FROM billing_grant g WHERE g.organization_id = w.organization_id),"
            " (SELECT coalesce(sum(amount_nano_usd), 0)::bigint FROM billing_ledgerentry e"
            "  WHERE e.organization_id = w.organization_id AND e.account = 'write_off')"
            " FROM billing_wallet w"
        ).fetchall()
        for organization, strict, granted, write_off in rows:
            balance, charged = self.bank.balance(organization), self.bank.charged(organization)
            assert balance + charged + write_off == granted, f"organization {organization}"
            assert balance >= 0 or not strict, f"organization {organization}"


class Visitor:
    """A client that sees the raw bytes of its answer, and may leave at any of them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def see(self, text: bytes) -> bytes:
        """Read until that text has come."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._reader.readuntil(text)

    async def rest(self) -> bytes:
        """Read until the gateway closes."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._reader.read()

    def leave(self) -> None:
        self._writer.transport.abort()


def credit_nano_usd(organization: Organization, amount: int) -> None:
    """A top-up, as the operator makes it."""
    grant_credit(
        credit=Credit(organization_id=organization.pk, amount_nano_usd=amount),
        actor=ACTOR,
        now=now(),
    )
