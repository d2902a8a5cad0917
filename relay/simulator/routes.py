"""Which endpoint answers which call."""

from collections.abc import Callable
from dataclasses import dataclass

from relay.simulator.catalogue import model_get, model_list
from relay.simulator.completions import chat_answer
from relay.simulator.embeddings import embeddings_answer
from relay.simulator.errors import url_unknown
from relay.simulator.images import edits_answer, generations_answer, variations_answer
from relay.simulator.moderations import moderations_answer
from relay.simulator.organization import KINDS, Organization
from relay.simulator.replies import Answer, Call
from relay.simulator.responses.endpoints import ResponseEndpoints
from relay.simulator.responses.store import ResponseStore
from relay.simulator.speech import speech_answer
from relay.simulator.text_completions import text_completions_answer
from relay.simulator.transcriptions import transcriptions_answer, translations_answer

_MODELS = "/v1/models"
_ORGANIZATION = "/v1/organization"


@dataclass(frozen=True, slots=True)
class Endpoint:
    # Raises Refusal.
    answer: Callable[[Call], Answer]
    # The answer depends on calls that came before.
    remembers: bool = False


class Routes:
    def __init__(self) -> None:
        self._store = ResponseStore()
        self.organization = Organization()
        responses = ResponseEndpoints(self._store)
        self._patterns = {
            ("GET", "responses", ""): Endpoint(responses.retrieve, remembers=True),
            ("DELETE", "responses", ""): Endpoint(responses.delete, remembers=True),
            ("POST", "responses", "cancel"): Endpoint(responses.cancel, remembers=True),
            ("GET", "responses", "input_items"): Endpoint(responses.input_items, remembers=True),
            ("GET", "conversations", ""): Endpoint(responses.conversation_retrieve, remembers=True),
            ("DELETE", "conversations", ""): Endpoint(
                responses.conversation_delete, remembers=True
            ),
        }
        self._fixed = {
            ("POST", "/v1/chat/completions"): Endpoint(chat_answer),
            ("POST", "/v1/completions"): Endpoint(text_completions_answer),
            ("POST", "/v1/embeddings"): Endpoint(embeddings_answer),
            ("POST", "/v1/moderations"): Endpoint(moderations_answer),
            ("POST", "/v1/images/generations"): Endpoint(generations_answer),
            ("POST", "/v1/images/edits"): Endpoint(edits_answer),
            ("POST", "/v1/images/variations"): Endpoint(variations_answer),
            ("POST", "/v1/audio/speech"): Endpoint(speech_answer),
            ("POST", "/v1/audio/transcriptions"): Endpoint(transcriptions_answer),
            ("POST", "/v1/audio/translations"): Endpoint(translations_answer),
            ("POST", "/v1/responses"): Endpoint(responses.create, remembers=True),
            ("POST", "/v1/responses/compact"): Endpoint(responses.compact, remembers=True),
            ("POST", "/v1/responses/input_tokens"): Endpoint(
                responses.input_tokens, remembers=True
            ),
            ("POST", "/v1/conversations"): Endpoint(responses.conversation_create, remembers=True),
            ("GET", _MODELS): Endpoint(_model_list),
            ("GET", f"{_ORGANIZATION}/costs"): Endpoint(self.organization.costs, remembers=True),
            **{
                ("GET", f"{_ORGANIZATION}/usage/{kind}"): Endpoint(
                    self.organization.usage, remembers=True
                )
                for kind in KINDS
            },
        }

    def find(self, *, method: str, path: str) -> Endpoint:
        """Raises Refusal."""
        endpoint = self._fixed.get((method, path))
        if endpoint is not None:
            return endpoint
        if method == "GET" and path.startswith(f"{_MODELS}/"):
            return Endpoint(_model_get)
        # /v1/<kind>/<id>, or /v1/<kind>/<id>/<what>
        match path.split("/")[1:]:
            case ["v1", kind, str(one)] if one:
                endpoint = self._patterns.get((method, kind, ""))
            case ["v1", kind, str(one), what] if one:
                endpoint = self._patterns.get((method, kind, what))
        if endpoint is not None:
            return endpoint
        raise url_unknown(method=method, path=path)

    def clear(self) -> None:
        """Forget what calls have made."""
        self._store.clear()
        self.organization.clear()


def _model_list(_: Call) -> Answer:
    return Answer(document=model_list())


def _model_get(call: Call) -> Answer:
    return Answer(document=model_get(call.path.removeprefix(f"{_MODELS}/")))
