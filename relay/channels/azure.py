"""Where the paths of the API are on Azure OpenAI. Pure.

With a version, calls of a model go to its deployment, which the channel's model map names; the
endpoints that Azure keeps for a whole resource, such as responses, do not. Without a version it is
Azure's v1 API, whose paths are OpenAI's own.
"""

from typing import Final
from urllib.parse import quote

_DEPLOYED: Final = (
    b"/chat/completions",
    b"/completions",
    b"/embeddings",
    b"/images/",
    b"/audio/",
)


def azure_target(endpoint: bytes, *, deployment: str, api_version: str) -> bytes:
    """The path behind the resource's address, and the query."""
    if not api_version:
        return endpoint
    path, mark, query = endpoint.partition(b"?")
    if deployment and path.startswith(_DEPLOYED):
        path = b"/deployments/" + quote(deployment, safe="").encode() + path
    version = b"api-version=" + api_version.encode()
    return b"/openai" + path + b"?" + (query + b"&" if mark and query else b"") + version
