"""The calls of `/v1/responses` and `/v1/conversations`."""

import hashlib
from typing import Any

import msgspec

from relay.simulator.completions import created_from
from relay.simulator.decoding import body_decode, knobs_check
from relay.simulator.errors import ErrorBody, Refusal, bad_request
from relay.simulator.knobs import NO_KNOBS, Knobs
from relay.simulator.replies import Answer, Call
from relay.simulator.responses.documents import Spoken, Status, document_make, spoken_make
from relay.simulator.responses.events import response_stream
from relay.simulator.responses.requests import (
    Json,
    ResponseRequest,
    input_tokens,
    items_check,
    parts_of,
    response_request_parse,
)
from relay.simulator.responses.store import (
    KEPT_ITEMS,
    Conversation,
    ResponseStore,
    StoredResponse,
)
from relay.simulator.tokens import Tokenizer

_MAX_LISTED = 100
_LISTED = 20
_BYTES_BESIDES = 4_096


class _ConversationRequest(msgspec.Struct, frozen=True):
    items: list[Json] | None = None
    metadata: dict[str, str] | None = None


_CONVERSATION_DECODER = msgspec.json.Decoder(_ConversationRequest)


class ResponseEndpoints:
    """Each raises Refusal."""

    def __init__(self, store: ResponseStore) -> None:
        self._store = store

    def create(self, call: Call) -> Answer:
        request = response_request_parse(call.body)
        context = self._context(request, call=call)
        knobs = request.knobs
        if knobs.status is not None:
            return Answer(knobs=knobs)
        spoken = spoken_make(request, context=context, digest=self._digest(call))
        if request.store is not False:
            self._keep(spoken, call=call, context=context)
        if request.stream:
            return Answer(knobs=knobs, stream=response_stream(spoken))
        status: Status | None = "queued" if request.background else None
        return Answer(knobs=knobs, document=document_make(spoken, status=status))

    def retrieve(self, call: Call) -> Answer:
        stored = self._stored(call)
        knobs = stored.later
        if call.first("stream") == "true":
            knobs_check(knobs, stream=True, is_response=True)
            after = call.first("starting_after")
            number = int(after) if after is not None and after.isdecimal() else None
            stream = response_stream(stored.spoken, starting_after=number)
            return Answer(knobs=knobs, stream=stream)
        document = _document(stored)
        if stored.is_pending:
            self._store.response_finish(stored)
        return Answer(knobs=knobs, document=document)

    def delete(self, call: Call) -> Answer:
        stored = self._stored(call)
        if stored.later.status is None:
            self._store.response_delete(stored)
        document = {"id": stored.spoken.id, "object": "response", "deleted": True}
        return Answer(knobs=stored.later, document=document)

    def cancel(self, call: Call) -> Answer:
        stored = self._stored(call)
        if not stored.spoken.request.background:
            raise bad_request("Cannot cancel a synchronous response.")
        if stored.is_pending and stored.later.status is None:
            stored = self._store.response_cancel(stored)
        return Answer(knobs=stored.later, document=_document(stored))

    def input_items(self, call: Call) -> Answer:
        stored = self._stored(call)
        return Answer(knobs=stored.later, document=_page(stored.input_items, call=call))

    def input_tokens(self, call: Call) -> Answer:
        request = response_request_parse(call.body)
        context = self._context(request, call=call)
        count = input_tokens(request, context=context, tokenizer=Tokenizer(request.model_name))
        document = {"object": "response.input_tokens", "input_tokens": count}
        return Answer(knobs=request.knobs, document=document)

    def compact(self, call: Call) -> Answer:
        request = response_request_parse(call.body)
        context = self._context(request, call=call)
        digest = self._digest(call)
        spoken = spoken_make(request, context=context, digest=digest)
        users = [item for item in [*context, *request.items] if item.get("role") == "user"]
        compaction = {
            "type": "compaction",
            "id": f"cmp_{digest[:48]}",
            "encrypted_content": f"gAAAA{digest}",
        }
        document: Json = {
            "id": spoken.id,
            "object": "response.compaction",
            "created_at": spoken.created_at,
            "output": [*_identified(users, digest=digest), compaction],
        }
        if request.knobs.fault != "no_usage":
            document["usage"] = spoken.usage
        return Answer(knobs=request.knobs, document=document)

    def conversation_create(self, call: Call) -> Answer:
        request = body_decode(call.body or b"{}", decoder=_CONVERSATION_DECODER)
        items_check(request.items or [], param="items")
        digest = self._digest(call)
        conversation = Conversation(
            id=f"conv_{digest[:48]}",
            credential=call.credential,
            created_at=created_from(digest),
            metadata=request.metadata or {},
            items=_identified(request.items or [], digest=digest),
        )
        self._store.conversation_put(conversation)
        return Answer(document=conversation.as_json())

    def conversation_retrieve(self, call: Call) -> Answer:
        return Answer(document=self._conversation(_id_of(call), call=call).as_json())

    def conversation_delete(self, call: Call) -> Answer:
        conversation = self._conversation(_id_of(call), call=call)
        self._store.conversation_delete(conversation)
        document = {"id": conversation.id, "object": "conversation.deleted", "deleted": True}
        return Answer(document=document)

    def _digest(self, call: Call) -> str:
        """The first of equal requests has the digest of its bytes, each other one its own."""
        times = self._store.time_count(call.digest)
        if not times:
            return call.digest
        return hashlib.sha256(f"{call.digest} {times}".encode()).hexdigest()

    def _context(self, request: ResponseRequest, *, call: Call) -> list[Json]:
        """What was said before: known only to who said it."""
        if request.previous_response_id is not None:
            found = self._store.response_get(
                request.previous_response_id, credential=call.credential
            )
            if found is None:
                raise bad_request(
                    f"Previous response with id '{request.previous_response_id}' not found.",
                    param="previous_response_id",
                    code="previous_response_not_found",
                )
            return found.context
        if (conversation := request.conversation_id) is not None:
            return self._conversation(conversation, call=call).items
        return []

    def _conversation(self, conversation_id: str, *, call: Call) -> Conversation:
        found = self._store.conversation_get(conversation_id, credential=call.credential)
        if found is None:
            message = f"Conversation with id '{conversation_id}' not found."
            raise Refusal(404, ErrorBody(message=message))
        return found

    def _keep(self, spoken: Spoken, *, call: Call, context: list[Json]) -> None:
        request = spoken.request
        items = _identified(request.items, digest=spoken.digest)
        said = [*items, *spoken.output]
        self._store.response_put(
            StoredResponse(
                credential=call.credential,
                spoken=spoken,
                context=[*context, *said][-KEPT_ITEMS:],
                input_items=items,
                later=_later(request.knobs),
                size=_BYTES_BESIDES + len(call.body),
                is_pending=bool(request.background),
            )
        )
        if (conversation := request.conversation_id) is not None:
            kept = self._conversation(conversation, call=call).items
            kept.extend(said)
            del kept[:-KEPT_ITEMS]

    def _stored(self, call: Call) -> StoredResponse:
        response_id = _id_of(call)
        stored = self._store.response_get(response_id, credential=call.credential)
        if stored is None:
            message = f"Response with id '{response_id}' not found."
            raise Refusal(404, ErrorBody(message=message))
        return stored


def _later(knobs: Knobs) -> Knobs:
    """Later calls are counted with the call that made what they are about."""
    later = knobs.later or NO_KNOBS
    return later if later.tag is not None else msgspec.structs.replace(later, tag=knobs.tag)


def _id_of(call: Call) -> str:
    return call.path.split("/")[3]


def _document(stored: StoredResponse) -> Json:
    if stored.is_cancelled:
        return document_make(stored.spoken, status="cancelled")
    if stored.is_pending:
        return document_make(stored.spoken, status="in_progress")
    return document_make(stored.spoken)


def _identified(items: list[Json], *, digest: str) -> list[Json]:
    """The items as a list shows them: each with an id, a message with content parts."""
    listed: list[Json] = []
    for number, item in enumerate(items):
        kind = item.get("type", "message")
        shown: Json = {"id": f"{_short(kind)}_{digest[:44]}{number:04d}", "type": kind} | item
        if kind == "message":
            shown |= {"status": "completed", "content": parts_of(item)}
        listed.append(shown)
    return listed


def _short(kind: str) -> str:
    return "msg" if kind == "message" else kind.partition("_")[0]


def _page(items: list[Json], *, call: Call) -> dict[str, Any]:
    """A page of the list, newest first unless asked otherwise."""
    order = call.first("order") or "desc"
    limit = call.first("limit") or str(_LISTED)
    if order not in ("asc", "desc"):
        raise bad_request(f"Invalid value: '{order}'.", param="order")
    if not limit.isdecimal() or not 1 <= int(limit) <= _MAX_LISTED:
        raise bad_request(f"Invalid 'limit': expected 1 to {_MAX_LISTED}.", param="limit")
    ordered = items if order == "asc" else items[::-1]
    after = call.first("after")
    if after is not None:
        places = [at for at, item in enumerate(ordered) if item["id"] == after]
        if not places:
            raise bad_request(f"No item found with id '{after}'.", param="after")
        ordered = ordered[places[0] + 1 :]
    page = ordered[: int(limit)]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else "",
        "last_id": page[-1]["id"] if page else "",
        "has_more": len(ordered) > len(page),
    }
