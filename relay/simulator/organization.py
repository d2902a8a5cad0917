"""What upstream's owner can ask with an admin key: usage and costs, by day.

The one place that reads a clock: a call counts on the UTC day on which it was answered.
"""

import datetime as dt
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec

from relay.simulator.errors import ErrorBody, Refusal
from relay.simulator.replies import Answer, Call
from relay.simulator.sending import Billed

ADMIN_KEY = "sk-admin"
DAY_SECONDS = 86_400
MOST_BUCKETS, DEFAULT_BUCKETS = 180, 7
# All that a model costs here.
USD_PER_INPUT_TOKEN, USD_PER_OUTPUT_TOKEN = Decimal("0.000001"), Decimal("0.000002")
USD_PER_OTHER_CALL = Decimal("0.01")

_KINDS = {
    "/v1/chat/completions": "completions",
    "/v1/completions": "completions",
    "/v1/responses": "completions",
    "/v1/embeddings": "embeddings",
    "/v1/moderations": "moderations",
    "/v1/images/generations": "images",
    "/v1/images/edits": "images",
    "/v1/images/variations": "images",
    "/v1/audio/speech": "audio_speeches",
    "/v1/audio/transcriptions": "audio_transcriptions",
    "/v1/audio/translations": "audio_transcriptions",
}
KINDS = frozenset(_KINDS.values())
_WITH_TOKENS = ("completions", "embeddings", "moderations")
_FORM_MODEL = re.compile(rb'name="model"\r\n\r\n([^\r\n]{1,128})\r\n')


class _Named(msgspec.Struct):
    model: str = ""


@dataclass(slots=True)
class _Tally:
    requests: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0

    @property
    def costs_usd(self) -> dict[str, Decimal]:
        if not self.input_tokens + self.output_tokens:
            return {"calls": self.requests * USD_PER_OTHER_CALL}
        return {
            "input": self.input_tokens * USD_PER_INPUT_TOKEN,
            "output": self.output_tokens * USD_PER_OUTPUT_TOKEN,
        }


def billed(call: Call, usage: Any) -> Billed | None:
    """What an answer to the call counts as; None for what costs nothing."""
    kind = _KINDS.get(call.path) if call.method == "POST" else None
    if kind is None:
        return None
    counts = _decoded(usage) if isinstance(usage, msgspec.Raw) else usage
    counts = counts if isinstance(counts, Mapping) else {}
    details = counts.get("prompt_tokens_details") or counts.get("input_tokens_details")
    return Billed(
        kind=kind,
        model=_model(call.body),
        input_tokens=_count(counts, "prompt_tokens", "input_tokens"),
        cached_tokens=_count(details if isinstance(details, Mapping) else {}, "cached_tokens"),
        output_tokens=_count(counts, "completion_tokens", "output_tokens"),
    )


@dataclass(slots=True)
class Organization:
    """The tallies, by day, kind and model."""

    _tallies: dict[tuple[int, str, str], _Tally] = field(
        default_factory=lambda: defaultdict(_Tally)
    )

    def count(self, call: Billed) -> None:
        day = int(dt.datetime.now(dt.UTC).timestamp()) // DAY_SECONDS
        tally = self._tallies[day, call.kind, call.model]
        tally.requests += 1
        tally.input_tokens += call.input_tokens
        tally.cached_tokens += call.cached_tokens
        tally.output_tokens += call.output_tokens

    def clear(self) -> None:
        self._tallies.clear()

    def usage(self, call: Call) -> Answer:
        """Raises Refusal."""
        kind = call.path.rpartition("/")[2]
        by_model = "model" in call.query.get("group_by[]", []) + call.query.get("group_by", [])

        def results(day: int) -> list[dict[str, Any]]:
            return [
                _result(kind, model if by_model else None, tally)
                for (when, what, model), tally in sorted(self._tallies.items())
                if (when, what) == (day, kind)
            ]

        return _page(call, results)

    def costs(self, call: Call) -> Answer:
        """Raises Refusal."""

        def results(day: int) -> list[dict[str, Any]]:
            return [
                {
                    "object": "organization.costs.result",
                    "amount": {"value": float(usd), "currency": "usd"},
                    "line_item": f"{model}, {item}",
                    "project_id": None,
                }
                for (when, _, model), tally in sorted(self._tallies.items())
                if when == day
                for item, usd in tally.costs_usd.items()
            ]

        return _page(call, results)


def _result(kind: str, model: str | None, tally: _Tally) -> dict[str, Any]:
    result: dict[str, Any] = {
        "object": f"organization.usage.{kind}.result",
        "num_model_requests": tally.requests,
        "project_id": None,
        "user_id": None,
        "api_key_id": None,
        "model": model,
    }
    if kind in _WITH_TOKENS:
        result["input_tokens"] = tally.input_tokens
    if kind == "completions":
        result |= {
            "output_tokens": tally.output_tokens,
            "input_cached_tokens": tally.cached_tokens,
            "input_audio_tokens": 0,
            "output_audio_tokens": 0,
        }
    return result


def _page(call: Call, results: Any) -> Answer:
    """The days that were asked for, so many a page. Raises Refusal."""
    if not call.credential.startswith(ADMIN_KEY):
        message = "You have insufficient permissions for this operation. Missing scopes: api.usage."
        raise Refusal(403, ErrorBody(message=message))
    start = _whole(call, "start_time", None)
    end = _whole(call, "end_time", start + DEFAULT_BUCKETS * DAY_SECONDS)
    limit = min(_whole(call, "limit", DEFAULT_BUCKETS), MOST_BUCKETS)
    days = list(range(start // DAY_SECONDS, -(-end // DAY_SECONDS)))
    at = int((call.first("page") or "page_0").removeprefix("page_"))
    shown, more = days[at : at + limit], len(days) > at + limit
    buckets = [
        {
            "object": "bucket",
            "start_time": day * DAY_SECONDS,
            "end_time": (day + 1) * DAY_SECONDS,
            "results": results(day),
        }
        for day in shown
    ]
    return Answer(
        document={
            "object": "page",
            "data": buckets,
            "has_more": more,
            "next_page": f"page_{at + limit}" if more else None,
        }
    )


def _whole(call: Call, name: str, default: int | None) -> int:
    text = call.first(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isdigit() or not int(text):
        raise Refusal(400, ErrorBody(message=f"Invalid '{name}': a whole number.", param=name))
    return int(text)


def _model(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Named).model
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = _FORM_MODEL.search(body)
        return found[1].decode(errors="replace") if found else ""


def _decoded(usage: msgspec.Raw) -> object:
    """A fault may have put anything there, also what no upstream could count."""
    try:
        return msgspec.json.decode(usage)
    except msgspec.DecodeError:
        return None


def _count(counts: Mapping[str, Any], *names: str) -> int:
    value = next((counts[name] for name in names if name in counts), 0)
    return value if isinstance(value, int) and value > 0 else 0
