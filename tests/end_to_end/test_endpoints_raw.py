"""Every endpoint byte by byte: status, content type and body are those of upstream."""

import re
from typing import Any

import httpx2
import pytest

from relay.endpoints.table import ID
from tests.end_to_end.support import Customer, Upstream, new_tag
from tests.relay.surface.calls import EXAMPLES, OFFERED

# What upstream keeps has a new id each time, which its times follow; the rest has to be the same.
NEW = re.compile(rb'_[0-9a-f]{16,}|_at": ?\d+|gAAAA[0-9a-f]+')
CALLS = [(name, False) for name in OFFERED]
CALLS += [(name, True) for name, row in OFFERED.items() if row.streamed and ID not in name]


def sent(http: httpx2.Client, name: str, body: tuple[bytes, bytes], key: str) -> httpx2.Response:
    method, _, path = name.partition(" ")
    content, content_type = body
    headers = {"authorization": f"Bearer {key}"}
    if content_type:
        headers["content-type"] = content_type.decode()
    return http.request(method, f"/v1/{path}", content=content, headers=headers)


def fields_of(name: str, *, stream: bool) -> dict[str, Any]:
    fields = dict(EXAMPLES[name].streamed or {}) if stream else {}
    if stream and name.endswith("completions"):
        # Else the gateway asks for the usage itself, and that is another request.
        fields["stream_options"] = {"include_usage": True}
    return fields


def kept_by(http: httpx2.Client, key: str) -> str:
    answer = sent(http, "POST responses", EXAMPLES["POST responses"].body(), key)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


@pytest.mark.parametrize(("name", "stream"), CALLS)
def test_the_bytes_are_upstreams(
    customer: Customer, upstream: Upstream, name: str, *, stream: bool
) -> None:
    tag = new_tag()
    fields = fields_of(name, stream=stream)
    if EXAMPLES[name].fields is not None:
        fields["simulate"] = {"tag": tag}
    body = EXAMPLES[name].body(**fields)
    ours, theirs = (
        sent(http, name.replace(ID, kept_by(http, key)) if ID in name else name, body, key)
        for http, key in ((customer.http, customer.api_key), (upstream.http, "direct"))
    )
    assert ours.status_code == theirs.status_code
    assert ours.headers["content-type"] == theirs.headers["content-type"]
    if ours.status_code != 200:  # An error is written by us.
        assert ours.json() == theirs.json()
    elif "responses" in name:
        assert NEW.sub(b"", ours.content) == NEW.sub(b"", theirs.content)
    else:
        assert ours.content == theirs.content
    if body[0]:
        one, other = upstream.all_received(tag)
        assert one["body_sha256"] == other["body_sha256"]
