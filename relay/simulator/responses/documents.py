"""A response as one JSON document, at each of its stages."""

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from relay.simulator.completions import created_from
from relay.simulator.errors import SERVER_ERROR
from relay.simulator.faults import error_of
from relay.simulator.responses.items import ItemsMaker, OutputItem, items_cut
from relay.simulator.responses.requests import Json, ResponseRequest, input_tokens
from relay.simulator.streams import Usage
from relay.simulator.tokens import Tokenizer
from relay.simulator.usage import given, usage_reported

# Fields of a request that its response repeats if they are there.
_REPEATED = (
    "prompt",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "user",
)

Status = Literal["completed", "incomplete", "failed", "in_progress", "queued", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """A response that has been thought up."""

    request: ResponseRequest
    digest: str
    items: list[OutputItem]
    status: Status
    reason: Literal["max_output_tokens", "content_filter"] | None
    usage: Usage

    @property
    def id(self) -> str:
        return f"resp_{self.digest[:48]}"

    @property
    def created_at(self) -> int:
        return created_from(self.digest)

    @property
    def output(self) -> list[Json]:
        return [item.finished() for item in self.items]


def spoken_make(request: ResponseRequest, *, context: list[Json], digest: str) -> Spoken:
    """The context is what was said before, if the request goes on from there."""
    knobs = request.knobs
    tokenizer = Tokenizer(request.model_name)
    items = ItemsMaker(request, digest=digest, tokenizer=tokenizer).make()
    limit = request.max_output_tokens
    if limit is not None and knobs.reasoning_tokens:
        limit -= knobs.reasoning_tokens
    items, is_cut = items_cut(items, limit=limit, tokenizer=tokenizer)
    status: Status = "completed"
    reason: Literal["max_output_tokens", "content_filter"] | None = None
    if knobs.failed is not None:
        status = "failed"
    elif is_cut or knobs.content_filter:
        status, reason = "incomplete", "max_output_tokens" if is_cut else "content_filter"
    prompt = input_tokens(request, context=context, tokenizer=tokenizer)
    return Spoken(
        request=request,
        digest=digest,
        items=items,
        status=status,
        reason=reason,
        usage=_usage(request, prompt=prompt, items=items),
    )


def _usage(request: ResponseRequest, *, prompt: int, items: list[OutputItem]) -> Usage:
    knobs = request.knobs
    thought = sum(item.tokens for item in items if item.kind == "reasoning")
    reasoning = given(knobs.reasoning_tokens, thought)
    said = sum(item.tokens for item in items if item.kind != "reasoning")
    prompt = given(knobs.prompt_tokens, prompt)
    output = given(knobs.completion_tokens, said + reasoning)
    counted: Json = {
        "input_tokens": prompt,
        "input_tokens_details": {
            "cached_tokens": knobs.cached_tokens or 0,
            "cache_write_tokens": knobs.cache_write_tokens or 0,
        },
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": given(knobs.total_tokens, prompt + output),
    }
    return usage_reported(counted, knobs=knobs)


def document_make(
    spoken: Spoken, *, status: Status | None = None, usage: Usage | None = None
) -> Json:
    """The finished response, or what is known of it at an earlier stage."""
    is_final = status is None
    status = status or spoken.status
    request = spoken.request
    document = _echoed(request) | {
        "id": spoken.id,
        "object": "response",
        "created_at": spoken.created_at,
        "status": status,
        "completed_at": spoken.created_at + 1 if status == "completed" else None,
        "error": _error(request) if status == "failed" else None,
        "incomplete_details": {"reason": spoken.reason} if status == "incomplete" else None,
        "model": request.knobs.model or request.model_name,
        "service_tier": _tier(request, is_final=is_final),
        "output": spoken.output if is_final and status != "failed" else [],
        "usage": None,
    }
    shows_usage = is_final and (status != "failed" or bool(request.knobs.usage))
    if shows_usage and request.knobs.fault != "no_usage":
        document["usage"] = spoken.usage if usage is None else usage
    if is_final and request.knobs.tool_usage:
        document["tool_usage"] = _tool_usage(spoken)
    return document


def _tier(request: ResponseRequest, *, is_final: bool) -> str:
    tier = request.service_tier or "auto"
    if not is_final:
        return tier
    return request.knobs.service_tier or ("default" if tier == "auto" else tier)


def _error(request: ResponseRequest) -> Json:
    error = error_of(request.knobs.failed, default=SERVER_ERROR)
    return {"code": error.code or "server_error", "message": error.message}


def _echoed(request: ResponseRequest) -> Json:
    """What a response repeats of its request."""
    conversation = request.conversation_id
    more: Json = {} if conversation is None else {"conversation": {"id": conversation}}
    for name in _REPEATED:
        if (value := getattr(request, name)) is not None:
            more[name] = value
    return more | {
        "background": bool(request.background),
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "max_tool_calls": request.max_tool_calls,
        "metadata": request.metadata or {},
        "parallel_tool_calls": _default(request.parallel_tool_calls, True),
        "previous_response_id": request.previous_response_id,
        "reasoning": {"effort": None, "summary": None} | (request.reasoning or {}),
        "store": _default(request.store, True),
        "temperature": _default(request.temperature, 1.0),
        "text": {"format": {"type": "text"}} | (request.text or {}),
        "tool_choice": _default(request.tool_choice, "auto"),
        "tools": [_tool_echoed(tool) for tool in request.tools or ()],
        "top_logprobs": request.top_logprobs or 0,
        "top_p": _default(request.top_p, 1.0),
        "truncation": request.truncation or "disabled",
    }


def _default(value: Any, default: Any) -> Any:
    return default if value is None else value


def _tool_echoed(tool: Json) -> Json:
    if tool.get("type") != "function":
        return tool
    return {"description": None, "parameters": None, "strict": True} | tool


def _tool_usage(spoken: Spoken) -> Json:
    """Billable use of hosted tools: searches, but not the pages that were opened."""
    actions = [
        item.fields["action"]["type"] for item in spoken.items if item.kind == "web_search_call"
    ]
    images = sum(item.kind == "image_generation_call" for item in spoken.items)
    return {
        "web_search": {"num_requests": actions.count("search")},
        "image_gen": {
            "input_tokens": 10 * images,
            "input_tokens_details": {"text_tokens": 10 * images, "image_tokens": 0},
            "output_tokens": 272 * images,
            "output_tokens_details": {"text_tokens": 0, "image_tokens": 272 * images},
            "total_tokens": 282 * images,
        },
    }


def document_bytes(document: Json) -> bytes:
    return msgspec.json.encode(document)
