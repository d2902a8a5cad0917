"""An HTTP/1.1 server of our own for ASGI applications. docs/adr/ says why.

- `head`: a request's head, from bytes to what it asks for; `body`: where a request's body ends
- `reply`: the bytes of an answer's head, and of the answers that the server itself gives
- `cycle`: one request and its answer, as the application sees them; `protocol`: one connection
- `deadline`, `wakeup`, `peer`: what it needs of the event loop and of the kernel
- `server`: all connections; `proxies`: whose word is taken for who the client is
"""

from gateway.http.limits import Limits
from gateway.http.server import HttpServer

__all__ = ["HttpServer", "Limits"]
