"""The official SDK for Node.js at every endpoint: it sees the same with and without a gateway.

One program calls them all, once here and once there. What differs is what upstream makes up anew
for each request: its ids, its times, the names of its pictures, and what it encrypts.
"""

import json
import re
from pathlib import Path
from typing import Any

import httpx2
import pytest

from relay.endpoints.table import ENDPOINTS
from relay.simulator.pictures import picture_bytes
from relay.simulator.sounds import silence_make
from tests.end_to_end.live import LiveGateway, wait_for
from tests.end_to_end.node_package import run
from tests.end_to_end.support import Customer, organization_create

NEW = re.compile(
    r'\b([a-z]+)_[0-9a-f]{16,}|("(?:created|created_at|completed_at)"): \d+|(simulated)/[0-9a-f]+'
    r"|(gAAAA)[0-9a-f]+"
)
SECONDS = 7.25


@pytest.fixture(scope="module")
def caller(gateway: LiveGateway, http: httpx2.Client) -> Customer:
    """Somebody who has no other records."""
    return organization_create(gateway, http, "Node", "--quota", "100", "--holds", "standard")


@pytest.fixture(scope="module")
def both(
    package: Path,
    gateway: LiveGateway,
    caller: Customer,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Any, Any]:
    """What was seen through the gateway, and directly."""
    folder = tmp_path_factory.mktemp("files")
    sound, picture = folder / "a.wav", folder / "a.png"
    sound.write_bytes(silence_make(SECONDS, form="wav"))
    picture.write_bytes(picture_bytes(16, 16, "png"))

    def seen(base_url: str, api_key: str) -> Any:
        environment = {"BASE_URL": base_url, "API_KEY": api_key}
        files = {"SOUND": str(sound), "PICTURE": str(picture)}
        return json.loads(run("node", "endpoints.mjs", folder=package, **environment, **files))

    through = seen(gateway.quickstart["base_url"], caller.api_key)
    return through, seen(f"{gateway.simulator_url}/v1", "direct")


def without_what_is_new(seen: Any) -> Any:
    """Each new id and time by its first place, so that who names another still differs."""
    places: dict[str, str] = {}

    def place(found: re.Match[str]) -> str:
        kind = next(filter(None, found.groups()))
        if kind.startswith('"'):
            return f"{kind}: 0"
        return places.setdefault(found[0], f"{kind}_{len(places)}")

    return json.loads(NEW.sub(place, json.dumps(seen)))


def test_everything_is_seen_as_if_there_were_no_gateway(both: tuple[Any, Any]) -> None:
    through, direct = map(without_what_is_new, both)
    assert through.keys() == direct.keys()
    for name, seen in direct.items():
        assert through[name] == seen, name


def test_it_is_what_was_asked_for(both: tuple[Any, Any]) -> None:
    seen, _ = both
    responses = seen["responses"]
    assert responses["retrieved"]["id"] == responses["first"]["id"]
    assert responses["following"]["previous_response_id"] == responses["first"]["id"]
    assert responses["helper"] == responses["text"] != ""
    assert responses["streamed"][-1]["type"] == "response.completed"
    assert responses["retrievedStream"][-1]["type"] == "response.completed"
    assert [item["type"] for item in responses["inputItems"]] == ["message"]
    assert (responses["cancelled"]["kind"], responses["gone"]["status"]) == ("BadRequestError", 404)
    for name, last in [("imageStream", "image_generation"), ("editStream", "image_edit")]:
        kinds = [event["type"] for event in seen[name]]
        assert kinds == [f"{last}.partial_image"] * 2 + [f"{last}.completed"]
    assert seen["transcriptStream"][-1]["type"] == "transcript.text.done"
    assert "silence for 7.25 seconds" in seen["transcriptText"]
    assert "silence" in seen["soundFirst"]["text"]
    assert seen["speech"]["size"] > 0
    assert seen["speechEvents"]["type"].startswith("text/event-stream")


def test_each_endpoint_was_called_and_recorded(both: tuple[Any, Any], caller: Customer) -> None:
    assert all(both)
    names = {row.name for row in ENDPOINTS}
    wait_for(
        lambda: {record["endpoint"] for record in caller.records(limit=100)} >= names,
        "a record of each endpoint",
    )
