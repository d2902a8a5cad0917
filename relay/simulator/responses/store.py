"""What was said, and by whom: responses and conversations belong to a credential."""

from collections import OrderedDict
from dataclasses import dataclass, field, replace

from relay.simulator.knobs import Knobs
from relay.simulator.responses.documents import Spoken
from relay.simulator.responses.requests import Json

KEPT_RESPONSES = 4_096
KEPT_BYTES = 64 * 2**20
KEPT_CONVERSATIONS = 1_024
KEPT_ITEMS = 1_000
_KEPT_BODIES = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResponse:
    credential: str
    spoken: Spoken
    # What was said up to here, the response included.
    context: list[Json]
    input_items: list[Json]
    later: Knobs
    # About what it takes to keep it.
    size: int
    # A background response is under way until somebody looks.
    is_pending: bool = False
    is_cancelled: bool = False


@dataclass(slots=True, kw_only=True)
class Conversation:
    id: str
    credential: str
    created_at: int
    metadata: Json
    items: list[Json] = field(default_factory=list)

    def as_json(self) -> Json:
        return {
            "id": self.id,
            "object": "conversation",
            "created_at": self.created_at,
            "metadata": self.metadata,
        }


class ResponseStore:
    def __init__(self) -> None:
        self._responses: OrderedDict[str, StoredResponse] = OrderedDict()
        self._bytes = 0
        self._conversations: OrderedDict[str, Conversation] = OrderedDict()
        # How often the same request came: no two responses have the same id.
        self._times: OrderedDict[str, int] = OrderedDict()

    def clear(self) -> None:
        self._responses.clear()
        self._bytes = 0
        self._conversations.clear()
        self._times.clear()

    def time_count(self, digest: str) -> int:
        """How often the digest has been counted before."""
        times = self._times.pop(digest, 0)
        self._times[digest] = times + 1
        if len(self._times) > _KEPT_BODIES:
            self._times.popitem(last=False)
        return times

    def response_put(self, stored: StoredResponse) -> None:
        """Keep the response, and drop the oldest ones if there are too many."""
        self._responses[stored.spoken.id] = stored
        self._bytes += stored.size
        while len(self._responses) > KEPT_RESPONSES or self._bytes > KEPT_BYTES:
            _, oldest = self._responses.popitem(last=False)
            self._bytes -= oldest.size

    def response_get(self, response_id: str, *, credential: str) -> StoredResponse | None:
        stored = self._responses.get(response_id)
        return stored if stored is not None and stored.credential == credential else None

    def response_finish(self, stored: StoredResponse) -> None:
        self._responses[stored.spoken.id] = replace(stored, is_pending=False)

    def response_cancel(self, stored: StoredResponse) -> StoredResponse:
        cancelled = replace(stored, is_pending=False, is_cancelled=True)
        self._responses[stored.spoken.id] = cancelled
        return cancelled

    def response_delete(self, stored: StoredResponse) -> None:
        del self._responses[stored.spoken.id]
        self._bytes -= stored.size

    def conversation_put(self, conversation: Conversation) -> None:
        self._conversations[conversation.id] = conversation
        if len(self._conversations) > KEPT_CONVERSATIONS:
            self._conversations.popitem(last=False)

    def conversation_get(self, conversation_id: str, *, credential: str) -> Conversation | None:
        found = self._conversations.get(conversation_id)
        return found if found is not None and found.credential == credential else None

    def conversation_delete(self, conversation: Conversation) -> None:
        del self._conversations[conversation.id]
