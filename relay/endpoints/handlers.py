"""Which handler serves which endpoint: one for every row of the table."""

from collections.abc import Mapping
from typing import Any, Final

from relay.endpoints.base import Handler
from relay.endpoints.chat import ChatHandler
from relay.endpoints.completions import CompletionsHandler
from relay.endpoints.embeddings import EmbeddingsHandler
from relay.endpoints.image_forms import EditsHandler, VariationsHandler
from relay.endpoints.images import GenerationsHandler
from relay.endpoints.moderations import ModerationsHandler
from relay.endpoints.responses import (
    CompactHandler,
    InputTokensHandler,
    ResponsesHandler,
    StoredHandler,
)
from relay.endpoints.speech import SpeechHandler
from relay.endpoints.table import ENDPOINTS
from relay.endpoints.transcriptions import TranscriptionsHandler

_KINDS: Final[Mapping[str, type[Handler[Any]]]] = {
    "chat_completions": ChatHandler,
    "completions": CompletionsHandler,
    "embeddings": EmbeddingsHandler,
    "moderations": ModerationsHandler,
    "responses": ResponsesHandler,
    "responses_compact": CompactHandler,
    "responses_input_tokens": InputTokensHandler,
    "images_generations": GenerationsHandler,
    "images_edits": EditsHandler,
    "images_variations": VariationsHandler,
    "audio_speech": SpeechHandler,
    "audio_transcriptions": TranscriptionsHandler,
    "audio_translations": TranscriptionsHandler,
    "response": StoredHandler,
    "response_cancel": StoredHandler,
    "response_input_items": StoredHandler,
}

# By operation and method.
HANDLERS: Final[Mapping[tuple[str, str], Handler[Any]]] = {
    (row.operation, row.method): _KINDS[row.operation](row) for row in ENDPOINTS
}
