"""Asking an upstream for its own books, in the shapes of OpenAI's organization API.

The channel's own way is taken (its proxy, its certificates), redirects are not followed, and no
more is read than a bound: a page that never ends is an upstream that is not to be believed.
"""

import asyncio
import datetime as dt
import json
from collections import defaultdict
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlencode

from accounts.errors import Refused
from relay.channels.table import ChannelRoute
from relay.headers import upstream_headers
from relay.reconciliation.figures import ALL, Figures
from relay.upstream import Deadlines, Upstream, UpstreamEngine, UpstreamError, UpstreamRequest
from relay.upstream.library import LibraryEngine
from relay.upstream_errors import scrub

DEADLINES = Deadlines(
    connect_seconds=5.0, first_byte_seconds=30.0, idle_seconds=30.0, total_seconds=60.0
)
LIMIT_BYTES = 8 * 1024 * 1024
MAX_PAGES = 100
DAYS_PER_PAGE = 31
MAX_COUNT = 10**15
MAX_TOLD = 200
OK = 200
DAY = dt.timedelta(days=1)
# The kinds of usage, and whether its tokens of input and output are told.
KINDS = {
    "completions": (True, True),
    "embeddings": (True, False),
    "moderations": (True, False),
    "images": (False, False),
    "audio_speeches": (False, False),
    "audio_transcriptions": (False, False),
}
Books = dict[tuple[dt.date, str], Figures]  # By day and model; ALL has the day's costs.


class UnreadableBooks(Refused):
    """Upstream did not answer, or not as OpenAI does."""


def upstream_books(route: ChannelRoute, admin_key: str, *, first: dt.date, last: dt.date) -> Books:
    """The figures of the UTC days from `first` to `last`. Raises UnreadableBooks."""
    return asyncio.run(_Reader(route, admin_key, first, last).read())


class _Reader:
    def __init__(self, route: ChannelRoute, admin_key: str, first: dt.date, last: dt.date) -> None:
        self._route, self._admin_key = route, admin_key
        self._first, self._end = _unix(first), _unix(last + DAY)
        self._books: Books = defaultdict(Figures)

    async def read(self) -> Books:
        engine: Upstream = (
            LibraryEngine() if self._route.proxy or self._route.http2 else UpstreamEngine()
        )
        try:
            for kind, tells in KINDS.items():
                await self._usage(engine, kind, *tells)
            await self._costs(engine)
        except UpstreamError as error:
            raise UnreadableBooks(f"Upstream did not answer: {scrub(str(error))}") from error
        finally:
            await engine.close()
        return dict(self._books)

    async def _usage(self, engine: Upstream, kind: str, *tells: bool) -> None:
        tells_input, tells_output = tells
        for day, result in await self._results(engine, f"usage/{kind}", group_by="model"):
            model = result.get("model")
            if not isinstance(model, str) or not model:
                raise UnreadableBooks("Upstream does not group its usage by model.")
            self._books[day, model] += Figures(
                requests=_count(result, "num_model_requests"),
                input_tokens=_count(result, "input_tokens") if tells_input else None,
                output_tokens=_count(result, "output_tokens") if tells_output else None,
            )

    async def _costs(self, engine: Upstream) -> None:
        for day, result in await self._results(engine, "costs", group_by="line_item"):
            cost = Figures(cost_nano_usd=_nano_usd(result.get("amount")))
            self._books[day, ALL] += cost
            # `gpt-4o-2024-08-06, input`: what is before the comma may be a model.
            model = str(result.get("line_item") or "").partition(",")[0].strip()
            if (day, model) in self._books and model:
                self._books[day, model] += cost

    async def _results(
        self, engine: Upstream, what: str, *, group_by: str
    ) -> list[tuple[dt.date, dict[str, Any]]]:
        """All results of all pages, each with its day."""
        query = {
            "start_time": str(self._first),
            "end_time": str(self._end),
            "bucket_width": "1d",
            "group_by[]": group_by,
            "limit": str(DAYS_PER_PAGE),
        }
        found: list[tuple[dt.date, dict[str, Any]]] = []
        for _ in range(MAX_PAGES):
            page = await self._page(engine, what, query)
            for bucket in _list(page, "data"):
                started = _count(bucket, "start_time")
                if not self._first <= started < self._end:
                    raise UnreadableBooks("Upstream told of days that nobody asked for.")
                day = dt.datetime.fromtimestamp(started, dt.UTC).date()
                found += [(day, result) for result in _list(bucket, "results")]
            if not page.get("has_more"):
                return found
            query["page"] = str(page.get("next_page"))
        raise UnreadableBooks(f"Upstream has more than {MAX_PAGES} pages.")

    async def _page(self, engine: Upstream, what: str, query: dict[str, str]) -> dict[str, Any]:
        request = self._request(f"/organization/{what}?{urlencode(query)}")
        async with await engine.send(request) as response:
            body = await response.read_all(LIMIT_BYTES)
            status = response.status
        try:
            document = json.loads(body, parse_float=Decimal)
        except (ValueError, RecursionError) as error:
            raise UnreadableBooks(f"Upstream answered {status} without JSON.") from error
        if status != OK or not isinstance(document, dict):
            raise UnreadableBooks(f"Upstream answered {status}: {_complaint(document)}")
        return document

    def _request(self, target: str) -> UpstreamRequest:
        route = self._route
        return UpstreamRequest(
            destination=route.destination,
            method=b"GET",
            target=route.base_path + target.encode(),
            headers=upstream_headers(
                (),
                host=route.destination.authority,
                authorization=f"Bearer {self._admin_key}".encode(),
                authorization_name=b"authorization",
                extra=route.headers,
            ),
            deadlines=DEADLINES,
            proxy=route.proxy,
            http2=route.http2,
        )


def _complaint(document: object) -> str:
    error = document.get("error") if isinstance(document, dict) else None
    message = error.get("message") if isinstance(error, dict) else "no message"
    return scrub(str(message))[:MAX_TOLD]


def _unix(day: dt.date) -> int:
    return int(dt.datetime.combine(day, dt.time(), dt.UTC).timestamp())


def _list(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = document.get(name)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise UnreadableBooks(f"Upstream's answer has no list {name!r}.")
    return found


def _count(result: dict[str, Any], name: str) -> int:
    count = result.get(name)
    if type(count) is not int or not 0 <= count <= MAX_COUNT:
        raise UnreadableBooks(f"Upstream's {name} is no count.")
    return count


def _nano_usd(amount: object) -> int:
    """An amount of dollars, to the next nano-USD; credits that upstream gave are below zero."""
    if not isinstance(amount, dict) or str(amount.get("currency")).lower() != "usd":
        raise UnreadableBooks("Upstream's costs are not in USD.")
    try:
        nano_usd = int((Decimal(str(amount.get("value"))) * 10**9).to_integral_value())
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise UnreadableBooks("Upstream's costs are no amount.") from error
    if abs(nano_usd) > MAX_COUNT:
        raise UnreadableBooks("Upstream's costs are out of range.")
    return nano_usd
