"""Both planes in one process: calls are relayed from memory, everything else goes to Django."""

import logging
import warnings
from collections.abc import Coroutine
from typing import Any, cast

from django.core.asgi import get_asgi_application

from gateway.launch import prepare_environment

prepare_environment()
with warnings.catch_warnings():
    # Where no static files were collected, they are served from where they are.
    warnings.filterwarnings("ignore", message="No directory at", category=UserWarning)
    _control_plane = cast("Application", get_asgi_application())

# WhiteNoise reads small files; that it does so synchronously is nothing to warn of.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume")

# Only now: what follows reads Django's settings.
from django.conf import settings  # noqa: E402

from gateway.checks import refuse_unsafe_configuration  # noqa: E402
from gateway.health import Health  # noqa: E402
from relay.application import RelayApplication  # noqa: E402
from relay.asgi_types import Application, Receive, Scope, Send  # noqa: E402

logger = logging.getLogger(__name__)


class Gateway:
    """The application that a server runs, with a beginning and an end of its own.

    A server that speaks ASGI's lifespan protocol gets both through it; our own worker calls `start`
    and `drain` itself, because running calls need their time before connections are closed.
    """

    def __init__(self, control_plane: Application) -> None:
        self.relay = RelayApplication(fallback=Health(control_plane, problems=self.problems))

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        if scope["type"] == "lifespan":
            return self._lifespan(receive, send)
        return self.relay(scope, receive, send)

    async def start(self) -> None:
        await self.relay.start()

    async def drain(self, patience_seconds: float) -> None:
        """Let running calls end; called again with less patience, it hurries."""
        await self.relay.drain(patience_seconds)

    def problems(self) -> list[str]:
        """Why this process should get no calls now; empty when it is ready."""
        return self.relay.problems()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.start()
        except Exception as error:
            logger.exception("The gateway cannot start.")
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.drain(settings.DRAIN_SECONDS)
        await send({"type": "lifespan.shutdown.complete"})


refuse_unsafe_configuration()
application = Gateway(_control_plane)
