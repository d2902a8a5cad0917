"""What the supervisor says when the gateway is ready."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.preparation import Prepared
from gateway.quickstart import Quickstart
from gateway.upstreams import Upstream
from gateway.worker import EXAMPLE_MODEL

_UPSTREAMS = {
    Upstream.SIMULATED: """\
  !!  SIMULATED UPSTREAM: answers are invented on this machine, no model is asked.
  !!  For real ones stop this, then: OPENAI_API_KEY=sk-... make run
""",
    Upstream.NONE: """\
  !!  NO UPSTREAM: calls are refused until there is a channel. Add one in the console
  !!  or with `manage.py channel_add`, or start with OPENAI_API_KEY=sk-...
""",
}


@dataclass(frozen=True, kw_only=True)
class Banner:
    """All that the text depends on."""

    prepared: Prepared
    quickstart: Quickstart | None
    base_url: str
    quickstart_file: Path
    # A production log is read by many: it names the file that only the operator can read.
    show_secrets: bool

    def text(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield "\nTollgate is ready.\n"
        yield f"  Base URL   {self.base_url}"
        if self.quickstart is not None:
            yield from self._access(self.quickstart)
        yield ""
        yield from filter(None, [_UPSTREAMS.get(self.prepared.upstream)])
        if self.quickstart is not None and self.show_secrets:
            yield "Try it:\n"
            yield curl(base_url=self.base_url, api_key=self.quickstart.api_key)
            yield ""
        yield "Ctrl-C stops it.\n"

    def _access(self, quickstart: Quickstart) -> Iterator[str]:
        in_file = f"in {self.quickstart_file}"
        yield f"  API key    {quickstart.api_key if self.show_secrets else in_file}"
        yield f"  Console    {quickstart.admin_url}"
        yield f"  E-mail     {quickstart.admin_email}"
        if self.prepared.first_run and self.show_secrets:
            yield f"  Password   {quickstart.admin_password}   (shown only now, then {in_file})"
        else:
            yield f"  Password   {in_file}"


def curl(*, base_url: str, api_key: str) -> str:
    """A call that works when it is pasted into a shell."""
    message = {"role": "user", "content": "Hello!"}
    body = json.dumps({"model": EXAMPLE_MODEL, "messages": [message]})
    return (
        f"curl {base_url}/chat/completions \\\n"
        f'  -H "Authorization: Bearer {api_key}" \\\n'
        f'  -H "Content-Type: application/json" \\\n'
        f"  -d '{body}'"
    )
