"""TLS towards upstreams: always verified, sessions resumed."""

import functools
import ssl

from typing_extensions import override


class ResumingContext(ssl.SSLContext):
    """A client context that offers a server the session that it gave last.

    The event loops have no parameter for a session, but all of them wrap through this method.
    """

    def __init__(self, _protocol: int) -> None:
        super().__init__()
        self._sessions: dict[str, ssl.SSLSession] = {}

    def remember(self, server_name: str, session: ssl.SSLSession) -> None:
        self._sessions[server_name] = session

    @override
    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        if session is None and isinstance(server_hostname, str):
            session = self._sessions.get(server_hostname)
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)


@functools.lru_cache(maxsize=64)
def client_context(ca_file: str | None) -> ResumingContext:
    """Return the context for a file of authorities; None means the system's. Raises OSError.

    Kept, because reading the authorities takes milliseconds and megabytes.
    """
    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca_file is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(cafile=ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context
