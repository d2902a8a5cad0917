"""The answer in OpenAI's shapes: one JSON document, or the events of a stream."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Any

import msgspec

from relay.simulator.answers import Choice, choices_make
from relay.simulator.decoding import MAX_EVENTS
from relay.simulator.replies import Answer, Call
from relay.simulator.requests import ChatRequest, request_parse
from relay.simulator.streams import DONE, Event, EventStream, Usage, nameless_error
from relay.simulator.tokens import Piece, Token, Tokenizer
from relay.simulator.usage import usage_make

_CREATED_FROM = 1_700_000_000
_CREATED_SPAN = 50_000_000
_NUMBERS_IN_USE = 100_000  # Below this every number is a token, in both vocabularies.


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    request: ChatRequest
    digest: str
    choices: tuple[Choice, ...]
    usage: Usage
    tokenizer: Tokenizer

    def frame(self, *, kind: str) -> dict[str, Any]:
        """The fields that a document and every chunk begin with."""
        knobs = self.request.knobs
        tier = self.request.service_tier
        return {
            "id": f"chatcmpl-{self.digest[:29]}",
            "object": kind,
            "created": created_from(self.digest),
            "model": knobs.model or self.request.model,
            "service_tier": knobs.service_tier or ("default" if tier in (None, "auto") else tier),
            "system_fingerprint": fingerprint(self.request.model),
        }


def fingerprint(model: str) -> str:
    """A model that gives the same answer for the same seed has the same fingerprint."""
    return f"fp_{hashlib.sha256(model.encode()).hexdigest()[:10]}"


def created_from(digest: str) -> int:
    return _CREATED_FROM + int(digest[:15], 16) % _CREATED_SPAN


def chat_answer(call: Call) -> Answer:
    """Raises Refusal."""
    request = request_parse(call.body)
    if request.knobs.status is not None:
        return Answer(knobs=request.knobs)
    completion = completion_make(request, digest=call.digest)
    if request.stream:
        return Answer(knobs=request.knobs, stream=completion_stream(completion))
    return Answer(knobs=request.knobs, document=completion_document(completion))


def completion_make(request: ChatRequest, *, digest: str) -> Completion:
    """Raises Refusal."""
    tokenizer = Tokenizer(request.model)
    choices = choices_make(request, tokenizer=tokenizer)
    return Completion(
        request=request,
        digest=digest,
        choices=choices,
        usage=usage_make(request, choices=choices, tokenizer=tokenizer),
        tokenizer=tokenizer,
    )


def completion_document(completion: Completion) -> dict[str, Any]:
    choices = [
        {
            "index": choice.index,
            "message": _message(completion, choice),
            "logprobs": _logprobs(completion, choice, choice.pieces),
            "finish_reason": choice.finish_reason,
        }
        for choice in completion.choices
    ]
    document = completion.frame(kind="chat.completion") | {"choices": choices}
    if completion.request.knobs.fault != "no_usage":
        document["usage"] = completion.usage
    return document


def completion_stream(completion: Completion) -> EventStream:
    return EventStream(
        events=_events(completion),
        usage=completion.usage,
        usage_event=partial(_usage_event, completion),
        padding_event=partial(_padding_event, completion),
        error_event=nameless_error,
    )


def _events(completion: Completion) -> list[Event]:
    chunk = _ChunkMaker(completion)
    events = [
        Event("role", chunk.of_choice(choice, delta=_first_delta(completion, choice)))
        for choice in completion.choices
    ]
    # Choices take turns, as they do when they are generated side by side.
    turns = zip_longest(*(_deltas(completion, choice) for choice in completion.choices))
    for turn in turns:
        for choice, spoken in zip(completion.choices, turn, strict=True):
            if spoken is not None:
                delta, pieces = spoken
                data = chunk.of_choice(choice, delta=delta, pieces=pieces)
                events.append(Event("content", data))
    events += [
        Event("finish", chunk.of_choice(choice, delta={"annotations": annotations}))
        for choice in completion.choices
        if (annotations := _annotations(completion, choice))
    ]
    events += [
        Event("finish", chunk.of_choice(choice, delta={}, finish_reason=choice.finish_reason))
        for choice in completion.choices
    ]
    if chunk.shows_usage:
        events.append(Event("usage", chunk.of_usage(completion.usage)))
    return [*events, DONE]


class _ChunkMaker:
    def __init__(self, completion: Completion) -> None:
        self._completion = completion
        self._frame = completion.frame(kind="chat.completion.chunk")
        request = completion.request
        self.shows_usage = request.includes_usage and request.knobs.fault != "no_usage"

    def of_choice(
        self,
        choice: Choice,
        *,
        delta: dict[str, Any],
        pieces: tuple[Piece, ...] = (),
        finish_reason: str | None = None,
    ) -> bytes:
        said = {
            "index": choice.index,
            "delta": delta,
            "logprobs": _logprobs(self._completion, choice, pieces) if pieces else None,
            "finish_reason": finish_reason,
        }
        usage = {"usage": None} if self.shows_usage else {}
        return msgspec.json.encode(self._frame | {"choices": [said]} | usage)

    def of_usage(self, usage: Usage) -> bytes:
        return msgspec.json.encode(self._frame | {"choices": [], "usage": usage})


def _usage_event(completion: Completion, usage: Usage) -> Event:
    return Event("usage", _ChunkMaker(completion).of_usage(usage))


def _padding_event(completion: Completion, size: int) -> Event:
    choices = [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": None}]
    frame = completion.frame(kind="chat.completion.chunk")
    padded = frame | {"choices": choices, "padding": "x" * size}
    return Event("noise", msgspec.json.encode(padded))


def _call_id(completion: Completion, choice: Choice) -> str:
    return f"call_{completion.digest[:20]}{choice.index:04d}"


def _annotations(completion: Completion, choice: Choice) -> list[dict[str, Any]]:
    """What a model that searches the web refers to."""
    if completion.request.web_search_options is None or choice.kind != "content":
        return []
    cited = {"url": "https://example.com/simulated", "title": "A simulated page"}
    place = {"start_index": 0, "end_index": len(choice.text)}
    return [{"type": "url_citation", "url_citation": place | cited}]


def _message(completion: Completion, choice: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": choice.text if choice.kind == "content" else None,
        "refusal": choice.text if choice.kind == "refusal" else None,
        "annotations": _annotations(completion, choice),
    }
    if choice.kind == "function_call":
        message["function_call"] = {"name": choice.name, "arguments": choice.text}
    elif choice.kind in ("function", "custom"):
        said = "arguments" if choice.kind == "function" else "input"
        call = {
            "id": _call_id(completion, choice),
            "type": choice.kind,
            choice.kind: {"name": choice.name, said: choice.text},
        }
        message["tool_calls"] = [call]
    return message


def _first_delta(completion: Completion, choice: Choice) -> dict[str, Any]:
    delta: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    if choice.kind == "content":
        delta["content"] = ""
    elif choice.kind == "refusal":
        delta["refusal"] = ""
    elif choice.kind == "function_call":
        delta["function_call"] = {"name": choice.name, "arguments": ""}
    else:
        said = "arguments" if choice.kind == "function" else "input"
        call = {
            "index": 0,
            "id": _call_id(completion, choice),
            "type": choice.kind,
            choice.kind: {"name": choice.name, said: ""},
        }
        delta["tool_calls"] = [call]
    return delta


def _deltas(
    completion: Completion, choice: Choice
) -> Iterator[tuple[dict[str, Any], tuple[Piece, ...]]]:
    request = completion.request
    most = MAX_EVENTS // len(completion.choices)
    for pieces in pieces_chunk(choice.pieces, chunks=request.knobs.chunks or most):
        text = "".join(piece.text for piece in pieces)
        if choice.kind in ("content", "refusal"):
            yield {choice.kind: text}, pieces
        elif choice.kind == "function_call":
            yield {"function_call": {"arguments": text}}, pieces
        else:
            said = "arguments" if choice.kind == "function" else "input"
            yield {"tool_calls": [{"index": 0, choice.kind: {said: text}}]}, pieces


def pieces_chunk(pieces: tuple[Piece, ...], *, chunks: int) -> Iterator[tuple[Piece, ...]]:
    """The pieces in as many parts of equal length, or one by one if there are fewer."""
    count = min(chunks, len(pieces))
    for number in range(count):
        start, end = number * len(pieces) // count, (number + 1) * len(pieces) // count
        yield pieces[start:end]


def _logprobs(
    completion: Completion, choice: Choice, pieces: tuple[Piece, ...]
) -> dict[str, Any] | None:
    if not completion.request.logprobs or choice.kind not in ("content", "refusal"):
        return None
    tokens = [_token_logprob(completion, token) for piece in pieces for token in piece.tokens]
    return {"content": None, "refusal": None} | {choice.kind: tokens}


def _token_logprob(completion: Completion, token: Token) -> dict[str, Any]:
    others = token_neighbours(
        token, count=completion.request.top_logprobs or 0, tokenizer=completion.tokenizer
    )
    alternatives = [_logprob(other, rank=rank) for rank, other in enumerate(others)]
    return _logprob(token, rank=0) | {"top_logprobs": alternatives}


def token_neighbours(token: Token, *, count: int, tokenizer: Tokenizer) -> list[Token]:
    """The token itself, and neighbours in the vocabulary for what else could have been said."""
    neighbours = ((token.number ^ distance) % _NUMBERS_IN_USE for distance in range(1, count))
    numbers = [token.number, *neighbours][:count]
    return [Token(*pair) for pair in zip(numbers, tokenizer.bytes_of(numbers), strict=True)]


def _logprob(token: Token, *, rank: int) -> dict[str, Any]:
    return {
        "token": token.text,
        "logprob": -0.125 - 1.5 * rank,
        "bytes": list(token.data),
    }
