"""What the simulated model says: the text, JSON or tool call of each choice."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

import msgspec

from relay.simulator.errors import bad_request
from relay.simulator.examples import example_make
from relay.simulator.requests import ChatRequest, Message
from relay.simulator.tokens import Piece, Tokenizer

_QUOTED_CHARACTERS = 400

Kind = Literal["content", "refusal", "function", "custom", "function_call"]
FinishReason = Literal["stop", "length", "tool_calls", "function_call", "content_filter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What would be said without limits."""

    kind: Kind
    text: str
    name: str = ""
    # A demo text may be lengthened; JSON, arguments and a text that was asked for may not.
    is_demo: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    index: int
    kind: Kind
    name: str
    pieces: tuple[Piece, ...]
    tokens: int
    finish_reason: FinishReason

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)


@dataclass(frozen=True, slots=True, kw_only=True)
class Callable:
    kind: Literal["function", "custom", "function_call"]
    name: str
    parameters: dict[str, Any] | None = None


def choices_make(request: ChatRequest, *, tokenizer: Tokenizer) -> tuple[Choice, ...]:
    """Raises Refusal."""
    draft = _draft(request)
    count = request.n or 1
    drafts = (
        replace(draft, text=f"{draft.text} This is choice {index + 1} of {count}.")
        if index and draft.is_demo
        else draft
        for index in range(count)
    )
    return tuple(
        _choice(one, index=index, request=request, tokenizer=tokenizer)
        for index, one in enumerate(drafts)
    )


def _choice(draft: Draft, *, index: int, request: ChatRequest, tokenizer: Tokenizer) -> Choice:
    text = draft.text
    chunks = request.knobs.chunks
    if draft.is_demo and chunks is not None:
        text = demo_lengthened(text, tokens=chunks, tokenizer=tokenizer)
    finish_reason: FinishReason = _finish_reason(draft)
    if draft.kind in ("content", "refusal"):
        text = text_stopped(text, request.stop)
    name_tokens = tokenizer.count(draft.name)
    if request.token_limit is not None:
        short = tokenizer.cut(text, limit=max(0, request.token_limit - name_tokens))
        if short != text:
            text, finish_reason = short, "length"
    if request.knobs.content_filter:
        finish_reason = "content_filter"
    pieces = tuple(tokenizer.pieces(text))
    return Choice(
        index=index,
        kind=draft.kind,
        name=draft.name,
        pieces=pieces,
        tokens=name_tokens + sum(len(piece.tokens) for piece in pieces),
        finish_reason=finish_reason,
    )


def _finish_reason(draft: Draft) -> FinishReason:
    if draft.kind in ("function", "custom"):
        return "tool_calls"
    return "function_call" if draft.kind == "function_call" else "stop"


def demo_lengthened(text: str, *, tokens: int, tokenizer: Tokenizer) -> str:
    unit = f" {text}"
    have = len(list(tokenizer.pieces(text)))
    if have >= tokens:
        return text
    return "".join(
        piece.text for piece in islice(tokenizer.pieces(text + unit * (tokens // have + 1)), tokens)
    )


def text_stopped(text: str, stop: str | list[str] | None) -> str:
    """The text up to the first stop sequence."""
    sequences = [stop] if isinstance(stop, str) else stop or []
    places = [text.find(sequence) for sequence in sequences if sequence]
    return text[: min((place for place in places if place >= 0), default=None)]


def _draft(request: ChatRequest) -> Draft:
    knobs = request.knobs
    kind: Kind = "refusal" if knobs.refusal else "content"
    if knobs.text is not None:
        return Draft(kind=kind, text=knobs.text)
    called = _callable_chosen(request)
    if called is not None and kind == "content":
        return _call_draft(called, request)
    form = request.response_format
    demo = _demo(request)
    if form is None or form.type == "text" or kind == "refusal":
        return Draft(kind=kind, text=demo, is_demo=True)
    schema = form.json_schema.schema if form.json_schema is not None else None
    document = {"answer": demo} if schema is None else example_make(schema)
    return Draft(kind=kind, text=_json(document))


def _call_draft(called: Callable, request: ChatRequest) -> Draft:
    if called.kind == "custom":
        text = quote(_said(request)[-1]) if _said(request) else ""
    else:
        made = example_make(called.parameters) if called.parameters else {}
        text = _json(made if isinstance(made, dict) else {})
    return Draft(kind=called.kind, text=text, name=called.name)


def _json(document: Any) -> str:
    return msgspec.json.encode(document).decode()


def _demo(request: ChatRequest) -> str:
    last = request.conversation[-1]
    if last.role in ("tool", "function"):
        return f'The tool answered: "{quote(_message_text(last))}".'
    said = _said(request)
    if not said:
        return f"Hello! Nobody asked anything. This is a simulated answer of {request.model}."
    text = f'You said: "{quote(said[-1])}".'
    if len(said) > 1:
        text += f' Before that you said: "{quote(said[-2])}".'
    return f"{text} This is a simulated answer of {request.model}."


def _said(request: ChatRequest) -> list[str]:
    return [_message_text(message) for message in request.conversation if message.role == "user"]


def _message_text(message: Message) -> str:
    if isinstance(message.content, list):
        parts = (part.text or part.refusal or f"[{part.type}]" for part in message.content)
        return " ".join(parts)
    return message.content or ""


def quote(text: str) -> str:
    return text if len(text) <= _QUOTED_CHARACTERS else f"{text[:_QUOTED_CHARACTERS]}…"


def _callable_chosen(request: ChatRequest) -> Callable | None:
    """The tool or function to call: the first, or the one that the request forces.

    Raises Refusal.
    """
    name, forbidden = _name_forced(request)
    callables = list(_callables(request))
    if name is not None:
        callables = [one for one in callables if one.name == name]
        if not callables:
            raise bad_request(
                f"Tool choice '{name}' not found in 'tools' parameter.",
                param="tool_choice",
            )
    answered = request.conversation[-1].role in ("tool", "function")
    if forbidden or answered or not callables:
        return None
    return callables[0]


def _callables(request: ChatRequest) -> Iterator[Callable]:
    for tool in request.tools or ():
        if tool.function is not None:
            parameters = tool.function.parameters
            yield Callable(kind="function", name=tool.function.name, parameters=parameters)
        elif tool.custom is not None:
            yield Callable(kind="custom", name=tool.custom.name)
    for function in request.functions or ():
        parameters = function.parameters
        yield Callable(kind="function_call", name=function.name, parameters=parameters)


def _name_forced(request: ChatRequest) -> tuple[str | None, bool]:
    """The name that `tool_choice` or `function_call` forces, and whether calls are forbidden."""
    choice: Any = request.tool_choice
    if choice is None:
        choice = request.function_call
    if choice is None or isinstance(choice, str):
        return None, choice == "none"
    if not isinstance(choice, dict):
        return choice.name, False
    # {"type": "function", "function": {"name"}}, the same with "custom", or a list of allowed ones.
    allowed = choice.get("allowed_tools")
    if isinstance(allowed, dict) and isinstance(tools := allowed.get("tools"), list) and tools:
        choice = tools[0]
    named = choice.get(choice.get("type")) if isinstance(choice, dict) else None
    name = named.get("name") if isinstance(named, dict) else None
    if not isinstance(name, str):
        raise bad_request("Invalid value for 'tool_choice'.", param="tool_choice")
    return name, False
