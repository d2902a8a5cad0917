"""The output items of a response: what the model thought, looked up, called and said."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

import msgspec

from relay.simulator.answers import demo_lengthened, quote
from relay.simulator.examples import example_make
from relay.simulator.pictures import picture_base64
from relay.simulator.responses.requests import Json, ResponseRequest, item_text
from relay.simulator.tokens import Piece, Tokenizer

Kind = Literal[
    "reasoning",
    "web_search_call",
    "file_search_call",
    "code_interpreter_call",
    "image_generation_call",
    "function_call",
    "custom_tool_call",
    "message",
]
_PREFIXES: dict[Kind, str] = {
    "reasoning": "rs",
    "web_search_call": "ws",
    "file_search_call": "fs",
    "code_interpreter_call": "ci",
    "image_generation_call": "ig",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "message": "msg",
}
_HOSTED = ("web_search", "file_search", "code_interpreter", "image_generation")
_CODE = "print(6 * 7)"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputItem:
    id: str
    kind: Kind
    # What is streamed: the text, the arguments, the code, or the summary.
    pieces: tuple[Piece, ...] = ()
    # What makes up the finished item besides that.
    fields: Json
    is_refusal: bool = False
    # The reasoning itself, and no summary of it.
    is_raw: bool = False
    is_cut: bool = False

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def tokens(self) -> int:
        return sum(len(piece.tokens) for piece in self.pieces)

    def finished(self) -> Json:
        return self._document(self.text, status="incomplete" if self.is_cut else "completed")

    def begun(self) -> Json:
        """The item as it is added to a stream."""
        return self._document("", status="in_progress", begun=True)

    def part(self, text: str) -> Json:
        """The content part of a message."""
        if self.is_refusal:
            return {"type": "refusal", "refusal": text}
        annotations = self.fields["annotations"] if text else []
        return {"type": "output_text", "annotations": annotations, "logprobs": [], "text": text}

    def _document(self, text: str, *, status: str, begun: bool = False) -> Json:
        document: Json = {"id": self.id, "type": self.kind}
        if self.kind == "reasoning" and self.is_raw:
            content = [{"type": "reasoning_text", "text": text}] if text else []
            return document | {"summary": [], "content": content} | self.fields
        if self.kind == "reasoning":
            summary = [{"type": "summary_text", "text": text}] if text else []
            return document | {"summary": summary} | self.fields
        if self.kind == "custom_tool_call":
            return document | {"input": text} | self.fields
        document["status"] = status
        if self.kind == "message":
            content = [] if begun else [self.part(text)]
            return document | {"role": "assistant", "content": content}
        if self.kind == "function_call":
            return document | {"arguments": text} | self.fields
        if self.kind == "code_interpreter_call":
            return document | self.fields | {"code": text} | ({"outputs": None} if begun else {})
        if self.kind == "image_generation_call":
            return document | self.fields | ({"result": None} if begun else {})
        return document | self.fields


class ItemsMaker:
    def __init__(self, request: ResponseRequest, *, digest: str, tokenizer: Tokenizer) -> None:
        self._request = request
        self._digest = digest
        self._tokenizer = tokenizer
        self._made = 0

    def make(self) -> list[OutputItem]:
        """Everything that would be put out without a limit."""
        items = [*self._reasoning(), *islice(self._hosted(), self._request.max_tool_calls)]
        call = self._call()
        return [*items, call if call is not None else self._message()]

    def _item(self, kind: Kind, *, text: str = "", **fields: Any) -> OutputItem:
        self._made += 1
        number = f"{self._made:02d}"
        return OutputItem(
            id=f"{_PREFIXES[kind]}_{self._digest[:46]}{number}",
            kind=kind,
            pieces=tuple(self._tokenizer.pieces(text)),
            fields=fields,
        )

    def _reasoning(self) -> Iterator[OutputItem]:
        request, knobs = self._request, self._request.knobs
        fields = {}
        if request.includes("reasoning.encrypted_content"):
            fields["encrypted_content"] = f"gAAAA{self._digest}"
        if knobs.reasoning_text is not None:
            item = self._item("reasoning", text=knobs.reasoning_text, **fields)
            yield replace(item, is_raw=True)
            return
        summarized = bool((request.reasoning or {}).get("summary"))
        if knobs.reasoning is None and not knobs.reasoning_tokens and not summarized:
            return
        text = knobs.reasoning
        if text is None:
            text = "Somebody asks for an answer. A simulated one will do." if summarized else ""
        yield self._item("reasoning", text=text, **fields)

    def _hosted(self) -> Iterator[OutputItem]:
        """The calls of tools that the upstream itself runs."""
        knobs = self._request.knobs
        declared = [self._tool_kind(tool) for tool in self._request.tools or ()]
        searches = knobs.web_search_actions
        if searches is None:
            searches = ["search"] * declared.count("web_search")
        for action in searches:
            yield self._item("web_search_call", action=self._action(action))
        for _ in range(_calls(knobs.file_search_calls, declared.count("file_search"))):
            results = [self._found()] if self._shows_results() else None
            yield self._item("file_search_call", queries=[self._asked()], results=results)
        for _ in range(_calls(knobs.code_interpreter_calls, declared.count("code_interpreter"))):
            yield self._item(
                "code_interpreter_call",
                text=_CODE,
                container_id=self._container(),
                outputs=[{"type": "logs", "logs": "42\n"}],
            )
        for _ in range(_calls(knobs.image_generation_calls, declared.count("image_generation"))):
            yield self._item("image_generation_call", result=picture_base64(64, 64, "png"))

    def _tool_kind(self, tool: Json) -> str:
        kind = str(tool.get("type"))
        return next((name for name in _HOSTED if kind.startswith(name)), kind)

    def _shows_results(self) -> bool:
        return self._request.includes("file_search_call.results")

    def _container(self) -> str:
        for tool in self._request.tools or ():
            if isinstance(container := tool.get("container"), str):
                return container
        return f"cntr_{self._digest[:48]}"

    def _action(self, kind: str) -> Json:
        url = "https://example.com/simulated"
        if kind == "open_page":
            return {"type": kind, "url": url}
        if kind == "find_in_page":
            return {"type": kind, "url": url, "pattern": self._asked()}
        sources: Json = {}
        if self._request.includes("web_search_call.action.sources"):
            sources = {"sources": [{"type": "url", "url": url}]}
        return {"type": "search", "query": self._asked()} | sources

    def _found(self) -> Json:
        return {
            "file_id": f"file-{self._digest[:24]}",
            "filename": "simulated.txt",
            "score": 0.75,
            "attributes": {},
            "text": "A simulated passage.",
        }

    def _asked(self) -> str:
        said = [item for item in self._request.items if item.get("role") == "user"]
        return quote(item_text(said[-1])) if said else ""

    def _call(self) -> OutputItem | None:
        """A call of a function or tool of the client's, unless it just gave a result."""
        request = self._request
        knobs = request.knobs
        if request.tool_choice == "none" or knobs.text is not None or knobs.refusal:
            return None
        if request.items and str(request.items[-1].get("type")).endswith("call_output"):
            return None
        wanted = request.tool_choice.get("name") if isinstance(request.tool_choice, dict) else None
        call_id = f"call_{self._digest[:24]}"
        for tool in request.tools or ():
            name = tool.get("name")
            if not isinstance(name, str) or wanted not in (None, name):
                continue
            if tool.get("type") == "function":
                made = example_make(tool.get("parameters") or {})
                arguments = _json(made if isinstance(made, dict) else {})
                return self._item("function_call", text=arguments, call_id=call_id, name=name)
            if tool.get("type") == "custom":
                text = self._asked()
                return self._item("custom_tool_call", text=text, call_id=call_id, name=name)
        return None

    def _message(self) -> OutputItem:
        request, knobs = self._request, self._request.knobs
        text = knobs.text
        form = (request.text or {}).get("format") or {}
        if text is None and form.get("type") in ("json_object", "json_schema"):
            schema = form.get("schema")
            text = _json({"answer": self._demo()} if schema is None else example_make(schema))
        if text is None:
            text = self._demo()
            if knobs.chunks is not None:
                text = demo_lengthened(text, tokens=knobs.chunks, tokenizer=self._tokenizer)
        item = self._item("message", text=text, annotations=self._annotations(text))
        return replace(item, is_refusal=knobs.refusal)

    def _annotations(self, text: str) -> list[Json]:
        """A message after a search cites what was found."""
        searched = self._request.knobs.web_search_actions
        if searched is None:
            kinds = map(self._tool_kind, self._request.tools or ())
            searched = ["search"] if "web_search" in kinds else []
        if "search" not in searched or not text:
            return []
        cited = {"url": "https://example.com/simulated", "title": "A simulated page"}
        return [{"type": "url_citation", "start_index": 0, "end_index": len(text)} | cited]

    def _demo(self) -> str:
        items = self._request.items
        if items and str(items[-1].get("type")).endswith("call_output"):
            return f'The tool answered: "{quote(str(items[-1].get("output")))}".'
        return f'You said: "{self._asked()}". This is a simulated answer of {self._request.model}.'


def _calls(wanted: int | None, declared: int) -> int:
    return declared if wanted is None else wanted


def _json(document: Any) -> str:
    return msgspec.json.encode(document).decode()


def items_cut(
    items: list[OutputItem], *, limit: int | None, tokenizer: Tokenizer
) -> tuple[list[OutputItem], bool]:
    """The items as far as the tokens last, and whether something is missing."""
    if limit is None:
        return items, False
    kept = []
    for item in items:
        short = tokenizer.cut(item.text, limit=max(0, limit))
        if short != item.text:
            pieces = tuple(tokenizer.pieces(short))
            # A call with half of its arguments is not put out.
            if item.kind in ("message", "reasoning") and pieces:
                kept.append(replace(item, pieces=pieces, is_cut=True))
            return kept, True
        kept.append(item)
        limit -= item.tokens
    return kept, False
