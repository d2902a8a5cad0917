"""`POST /v1/completions`: the older endpoint, where a model goes on with a text."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from relay.simulator.answers import demo_lengthened, quote, text_stopped
from relay.simulator.catalogue import model_check
from relay.simulator.completions import (
    created_from,
    fingerprint,
    pieces_chunk,
    token_neighbours,
)
from relay.simulator.decoding import MAX_EVENTS, body_decode, knobs_check
from relay.simulator.errors import bad_request
from relay.simulator.inputs import TextInput, texts_of
from relay.simulator.knobs import NO_KNOBS, Knobs
from relay.simulator.replies import Answer, Call
from relay.simulator.requests import StreamOptions
from relay.simulator.streams import DONE, Event, EventStream, Usage, nameless_error
from relay.simulator.tokens import Piece, Tokenizer
from relay.simulator.usage import given, usage_reported

_DEFAULT_MAX_TOKENS = 16
_MAX_CHOICES = 128


class TextRequest(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    # The end of text, as if a new document began.
    prompt: TextInput | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    best_of: Annotated[int, Meta(ge=0, le=20)] | None = None
    max_tokens: Annotated[int, Meta(ge=0)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    stop: str | list[str] | None = None
    suffix: str | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    simulate: Knobs | None = None

    @property
    def knobs(self) -> Knobs:
        return self.simulate or NO_KNOBS


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    index: int
    # What was echoed, and what follows it.
    pieces: tuple[Piece, ...]
    finish_reason: Literal["stop", "length", "content_filter"]

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Completion:
    request: TextRequest
    digest: str
    tokenizer: Tokenizer
    choices: tuple[_Choice, ...]
    usage: Usage

    def frame(self) -> dict[str, Any]:
        return {
            "id": f"cmpl-{self.digest[:29]}",
            "object": "text_completion",
            "created": created_from(self.digest),
            "model": self.request.knobs.model or self.request.model,
            "system_fingerprint": fingerprint(self.request.model),
        }


_DECODER = msgspec.json.Decoder(TextRequest)


def text_completions_answer(call: Call) -> Answer:
    """Raises Refusal."""
    request = body_decode(call.body, decoder=_DECODER)
    model_check(request.model, endpoint="completions")
    _options_check(request)
    completion = _completion_make(request, digest=call.digest)
    if request.stream:
        return Answer(knobs=request.knobs, stream=_stream(completion))
    return Answer(knobs=request.knobs, document=_document(completion))


def _options_check(request: TextRequest) -> None:
    if request.stream_options is not None and not request.stream:
        raise bad_request(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            param="stream_options",
        )
    count, best_of = request.n or 1, request.best_of
    if best_of is not None and best_of < count:
        raise bad_request(
            "You requested that the server return more choices than it will generate."
        )
    if best_of is not None and best_of > count and request.stream:
        raise bad_request("Results cannot be streamed when best_of is greater than n.")
    knobs_check(request.knobs, stream=bool(request.stream), count=count)


def _completion_make(request: TextRequest, *, digest: str) -> _Completion:
    tokenizer = Tokenizer(request.model)
    prompts = texts_of(
        "" if request.prompt is None else request.prompt, tokenizer=tokenizer, param="prompt"
    )
    count = request.n or 1
    made = max(count, request.best_of or 0)
    if len(prompts) * made > _MAX_CHOICES:
        raise bad_request(f"More than {_MAX_CHOICES} choices were asked for.", param="n")
    choices: list[_Choice] = []
    spoken = 0
    for prompt in prompts:
        # Candidates that lose against others are paid for, but not shown.
        for candidate in range(made):
            pieces, finish_reason = _continued(
                prompt.text, number=candidate, request=request, tokenizer=tokenizer
            )
            spoken += sum(len(piece.tokens) for piece in pieces)
            if candidate < count:
                echoed = tuple(tokenizer.pieces(prompt.text)) if request.echo else ()
                choices.append(
                    _Choice(index=len(choices), pieces=echoed + pieces, finish_reason=finish_reason)
                )
    usage = _usage(request, prompt=sum(prompt.tokens for prompt in prompts), spoken=spoken)
    return _Completion(
        request=request, digest=digest, tokenizer=tokenizer, choices=tuple(choices), usage=usage
    )


def _continued(
    prompt: str, *, number: int, request: TextRequest, tokenizer: Tokenizer
) -> tuple[tuple[Piece, ...], Literal["stop", "length", "content_filter"]]:
    knobs = request.knobs
    text = knobs.text
    if text is None:
        text = f' You wrote: "{quote(prompt)}". This is a simulated answer of {request.model}.'
        if number:
            text += f" It is choice {number + 1}."
        if knobs.chunks is not None:
            text = demo_lengthened(text, tokens=knobs.chunks, tokenizer=tokenizer)
    text = text_stopped(text, request.stop)
    limit = request.max_tokens
    if limit is None:
        # What a test asks for explicitly is not cut by a default.
        limit = max(_DEFAULT_MAX_TOKENS, knobs.chunks or 0) if knobs.text is None else len(text)
    short = tokenizer.cut(text, limit=limit)
    pieces = tuple(tokenizer.pieces(short))
    if knobs.content_filter:
        return pieces, "content_filter"
    return pieces, "stop" if short == text else "length"


def _usage(request: TextRequest, *, prompt: int, spoken: int) -> Usage:
    knobs = request.knobs
    prompt = given(knobs.prompt_tokens, prompt)
    spoken = given(knobs.completion_tokens, spoken)
    counted: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": spoken,
        "total_tokens": given(knobs.total_tokens, prompt + spoken),
    }
    if knobs.cached_tokens is not None:
        counted["prompt_tokens_details"] = {"cached_tokens": knobs.cached_tokens}
    return usage_reported(counted, knobs=knobs)


def _document(completion: _Completion) -> dict[str, Any]:
    choices = [
        {
            "text": choice.text,
            "index": choice.index,
            "logprobs": _logprobs(completion, choice.pieces, offset=0),
            "finish_reason": choice.finish_reason,
        }
        for choice in completion.choices
    ]
    document = completion.frame() | {"choices": choices}
    if completion.request.knobs.fault != "no_usage":
        document["usage"] = completion.usage
    return document


def _stream(completion: _Completion) -> EventStream:
    return EventStream(
        events=_events(completion),
        usage=completion.usage,
        usage_event=partial(_usage_event, completion),
        padding_event=partial(_padding_event, completion),
        error_event=nameless_error,
    )


def _events(completion: _Completion) -> list[Event]:
    request = completion.request
    options = request.stream_options
    shows_usage = options is not None and bool(options.include_usage)
    shows_usage = shows_usage and request.knobs.fault != "no_usage"
    more = completion.frame() | ({"usage": None} if shows_usage else {})
    # Choices take turns, as they do when they are generated side by side.
    turns = zip_longest(*(_chunks(completion, choice) for choice in completion.choices))
    events = [
        Event("content", msgspec.json.encode(more | {"choices": [said]}))
        for turn in turns
        for said in turn
        if said is not None
    ]
    for choice in completion.choices:
        said = _said(choice, text="", logprobs=None) | {"finish_reason": choice.finish_reason}
        events.append(Event("finish", msgspec.json.encode(more | {"choices": [said]})))
    if shows_usage:
        events.append(_usage_event(completion, completion.usage))
    return [*events, DONE]


def _chunks(completion: _Completion, choice: _Choice) -> Iterator[dict[str, Any]]:
    most = MAX_EVENTS // len(completion.choices)
    offset = 0
    for pieces in pieces_chunk(choice.pieces, chunks=completion.request.knobs.chunks or most):
        text = "".join(piece.text for piece in pieces)
        yield _said(choice, text=text, logprobs=_logprobs(completion, pieces, offset=offset))
        offset += len(text)


def _said(choice: _Choice, *, text: str, logprobs: dict[str, Any] | None) -> dict[str, Any]:
    return {"text": text, "index": choice.index, "logprobs": logprobs, "finish_reason": None}


def _usage_event(completion: _Completion, usage: Usage) -> Event:
    document = completion.frame() | {"choices": [], "usage": usage}
    return Event("usage", msgspec.json.encode(document))


def _padding_event(completion: _Completion, size: int) -> Event:
    said = {"text": "", "index": 0, "logprobs": None, "finish_reason": None}
    document = completion.frame() | {"choices": [said], "padding": "x" * size}
    return Event("noise", msgspec.json.encode(document))


def _logprobs(
    completion: _Completion, pieces: tuple[Piece, ...], *, offset: int
) -> dict[str, Any] | None:
    count = completion.request.logprobs
    if count is None:
        return None
    tokens, offsets, tops = [], [], []
    for piece in pieces:
        for token in piece.tokens:
            tokens.append(token.text)
            offsets.append(offset)
            others = token_neighbours(token, count=count, tokenizer=completion.tokenizer)
            tops.append({other.text: -0.125 - 1.5 * rank for rank, other in enumerate(others)})
        offset += len(piece.text)
    return {
        "tokens": tokens,
        "token_logprobs": [-0.125] * len(tokens),
        "top_logprobs": tops if count else None,
        "text_offset": offsets,
    }
