"""Which handler serves which endpoint: one for every row of the table."""

from collections.abc import Mapping
from typing import Any, Final

from relay.endpoints.base import Handler
from relay.endpoints.chat import ChatHandler

HANDLERS: Final[Mapping[tuple[str, str], Handler[Any]]] = {
    ("chat_completions", "POST"): ChatHandler(),
}
