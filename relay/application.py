"""The data plane: a plain ASGI application that serves calls from memory.

What is not its own goes to the application behind it; a usage query, which may come under any of
the relay's prefixes, goes there under its one canonical path.
"""

import asyncio
import logging
from urllib.parse import quote

from accounts.directory import Principal
from billing.engine.database import Database
from billing.identifiers import uuid7
from relay import errors
from relay.admission import SentKeys, authenticate, authorize
from relay.asgi_types import Application, Receive, Scope, Send
from relay.call_log import CallLog
from relay.endpoints.handlers import HANDLERS
from relay.errors import RelayError
from relay.exchange import ClientLeft, Exchange
from relay.headers import preflight_headers
from relay.idempotency import calls as idempotency
from relay.idempotency.calls import Idempotency
from relay.model_list import model_get, model_list
from relay.paths import Match, allowed_methods, is_known_elsewhere, match
from relay.relaying import Relaying
from relay.runtime import Runtime, RuntimeSettings
from relay.streaming import Unfinished

logger = logging.getLogger("tollgate.relay")

CANONICAL_PATHS = {
    "usage": "/v1/usage",
    "usage_records": "/v1/usage/records",
    "alerts": "/v1/alerts",
    "alert": "/v1/alerts",  # With its id behind it.
    "billing_usage": "/v1/dashboard/billing/usage",
    "billing_subscription": "/v1/dashboard/billing/subscription",
    "billing_credit_grants": "/v1/dashboard/billing/credit_grants",
}
# After the calls have ended: for shipping their records and returning the leases.
SETTLE_SECONDS = 10.0


class RelayApplication:
    def __init__(self, fallback: Application, settings: RuntimeSettings | None = None) -> None:
        if settings is None:
            from relay.configuration import runtime_settings  # It needs Django's settings.

            settings = runtime_settings()
        self._fallback = fallback
        self._runtime = Runtime(settings)
        self._keys = SentKeys(pepper=settings.key_pepper)
        self._relaying = Relaying(self._runtime)
        self._idempotency = Idempotency(
            serve=self._relaying.serve,
            serve_read=self._relaying.serve_read,
            database=Database(url=settings.database_url, timeout=settings.timing.timeout),
            body_limit_bytes=settings.body_limit_bytes,
        )
        self._log = CallLog()
        self._draining = False
        self._stopped: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = match(scope["path"]) if scope["type"] == "http" else None
        if found is None:
            await self._fallback(scope, receive, send)
            return
        if found.operation in CANONICAL_PATHS and scope["method"] != "OPTIONS":
            await self._fallback(_canonical(scope, found), receive, send)
            return
        exchange = Exchange(scope, receive, send)
        try:
            await self._serve(exchange, found)
        except RelayError as error:
            await exchange.refuse(error)
        except ClientLeft:
            exchange.log["error"] = "client_left"
        except Unfinished:
            pass  # The server breaks the connection of an answer that was left without its end.
        except Exception:
            logger.critical("A call failed in us.", exc_info=True)
            if not exchange.status:
                await exchange.refuse(errors.internal(retry=False))
            else:
                raise  # The server breaks the connection, so nobody takes it for a whole answer.
        finally:
            if exchange.method != "OPTIONS":
                self._log.write(exchange)

    async def _serve(self, exchange: Exchange, found: Match) -> None:
        if exchange.method == "OPTIONS":
            names = exchange.header(b"access-control-request-headers")
            await exchange.preflight(preflight_headers(names))
            return
        allowed = allowed_methods(found.operation)
        if found.operation == "unknown":
            raise _unknown(exchange, found)
        if exchange.method not in allowed:
            if (exchange.header(b"upgrade") or b"").lower() == b"websocket":
                raise errors.no_websocket()
            raise errors.method_not_allowed(exchange.method, allowed)
        if self._draining:
            raise errors.server_draining()
        principal = await authenticate(exchange, directory=self._runtime.directory, keys=self._keys)
        exchange.log |= {
            "organization": principal.organization_slug,
            "project": principal.project_slug,
            "api_key": principal.api_key_prefix,
        }
        authorize(principal, exchange, found)
        await self._operate(exchange, principal, found)

    async def _operate(self, exchange: Exchange, principal: Principal, found: Match) -> None:
        handler = HANDLERS.get((found.operation, exchange.method))
        if handler is not None:
            key = None
            if exchange.header(idempotency.HEADER) is not None:
                key = idempotency.key_of(exchange, handler.endpoint)
            if key is None:
                await self._relaying.serve(exchange, principal, handler, found.argument)
            else:
                await self._idempotency.serve(exchange, principal, handler, found.argument, key)
        elif found.operation == "models":
            await model_list(exchange, principal, self._runtime)
        else:
            assert found.argument is not None, "a model's path names the model"
            await model_get(exchange, principal, self._runtime, found.argument)

    # --- Life ------------------------------------------------------------------------------------

    def problems(self) -> list[str]:
        """Why this process should get no calls now; empty when it is ready."""
        return ["draining"] if self._draining else self._runtime.problems()

    async def start(self) -> None:
        self._log.start()
        await self._runtime.start()
        self._relaying.start()
        self._idempotency.start()

    async def drain(self, patience_seconds: float) -> None:
        """Admit nothing, let calls end, cut what is left, settle, ship, give everything back.

        May be called again with less patience; returns when it is all done.
        """
        self._draining = True
        for call in list(self._relaying.open_calls):
            asyncio.get_running_loop().call_later(patience_seconds, call.cut, "draining")
        if self._stopped is None:
            self._stopped = asyncio.create_task(self._stop())
        await asyncio.shield(self._stopped)

    async def _stop(self) -> None:
        await self._relaying.wait_idle()
        await self._idempotency.stop()
        await self._relaying.stop()
        await self._runtime.stop(SETTLE_SECONDS)
        await self._log.stop()


def _canonical(scope: Scope, found: Match) -> Scope:
    """The scope of a usage query as the control plane knows it, whatever its prefix was."""
    path = CANONICAL_PATHS[found.operation]
    if found.argument is not None:
        path = f"{path}/{found.argument}"
    # Django refuses unknown hosts, in HTML. Nothing that it answers here depends on the host.
    headers = [(n, v) for n, v in scope["headers"] if n != b"host"] + [(b"host", b"localhost")]
    return {
        **scope,
        "path": path,
        "raw_path": quote(path).encode(),
        "headers": headers,
        "tollgate": {
            "organization": found.organization,
            "project": found.project,
            "request_id": f"req_{uuid7().hex}",
        },
    }


def _unknown(exchange: Exchange, found: Match) -> RelayError:
    path = exchange.path or found.rest
    if is_known_elsewhere(found.rest):
        return errors.not_offered(exchange.method, path)
    return errors.unknown_url(exchange.method, path)
