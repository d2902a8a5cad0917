"""Which handler serves which endpoint: one for every row of the table."""

from collections.abc import Mapping
from typing import Any, Final

from relay.endpoints.base import Handler
from relay.endpoints.chat import ChatHandler
from relay.endpoints.completions import CompletionsHandler
from relay.endpoints.embeddings import EmbeddingsHandler
from relay.endpoints.moderations import ModerationsHandler

HANDLERS: Final[Mapping[tuple[str, str], Handler[Any]]] = {
    ("chat_completions", "POST"): ChatHandler(),
    ("completions", "POST"): CompletionsHandler(),
    ("embeddings", "POST"): EmbeddingsHandler(),
    ("moderations", "POST"): ModerationsHandler(),
}
