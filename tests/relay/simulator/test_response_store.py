"""What `/v1/responses` and `/v1/conversations` remember, and for whom."""

from typing import Any

import openai
import pytest
from openai import OpenAI

from relay.simulator.responses import store
from tests.relay.simulator.shapes import response_check
from tests.relay.simulator.support import KEY, RawResponse, Upstream
from tests.relay.simulator.test_responses import PATH, call, respond

OTHER = "sk-somebody-else"


def get(upstream: Upstream, path: str, *, method: str = "GET", key: str = KEY) -> RawResponse:
    return upstream.call(b"", path=f"/v1/{path}", method=method, key=key)


def test_no_two_responses_have_the_same_id(upstream: Upstream) -> None:
    responses = [respond(upstream, input="twins") for _ in range(3)]
    responses += [respond(upstream, input="twins", store=False) for _ in range(3)]

    assert len({response.id for response in responses}) == 6
    assert len({response.output[0].id for response in responses}) == 6
    assert len({response.output_text for response in responses}) == 1


def test_a_response_is_kept(client: OpenAI) -> None:
    made = client.responses.create(model="gpt-5", input="Keep this.")

    assert client.responses.retrieve(made.id) == made
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_a_response_that_is_not_to_be_kept_is_not(upstream: Upstream) -> None:
    response = respond(upstream, store=False)

    assert get(upstream, f"responses/{response.id}").status == 404
    answer = call(upstream, previous_response_id=response.id)
    assert answer.document()["error"]["code"] == "previous_response_not_found"


@pytest.mark.parametrize(
    ("method", "suffix"),
    [
        ("GET", ""),
        ("GET", "?stream=true"),
        ("DELETE", ""),
        ("POST", "/cancel"),
        ("GET", "/input_items"),
    ],
)
def test_a_response_belongs_to_its_credential(upstream: Upstream, method: str, suffix: str) -> None:
    response = respond(upstream, background=True)
    path = f"responses/{response.id}{suffix}"

    assert get(upstream, path, method=method, key=OTHER).status == 404
    assert get(upstream, path, method=method).status == 200


def test_what_was_said_belongs_to_its_credential(upstream: Upstream) -> None:
    response = respond(upstream)
    conversation = upstream.call({}, path="/v1/conversations").document()
    body: dict[str, Any] = {"model": "gpt-5", "input": "hi"}

    for more in ({"previous_response_id": response.id}, {"conversation": conversation["id"]}):
        for path in (PATH, f"{PATH}/compact", f"{PATH}/input_tokens"):
            assert upstream.call(body | more, path=path, key=OTHER).status in (400, 404)
            assert upstream.call(body | more, path=path).status == 200
    assert get(upstream, f"conversations/{conversation['id']}", key=OTHER).status == 404


def test_what_was_said_before_is_paid_for_again(upstream: Upstream) -> None:
    first = respond(upstream, input="A story.")
    second = respond(upstream, input="Go on.", previous_response_id=first.id)
    third = respond(upstream, input="Go on.", previous_response_id=second.id)
    alone = respond(upstream, input="Go on.")

    counts = [one.usage.input_tokens for one in (alone, second, third) if one.usage is not None]
    assert len(set(counts)) == 3
    assert counts == sorted(counts)


def test_a_conversation_grows(client: OpenAI) -> None:
    conversation = client.conversations.create(metadata={"topic": "birds"})
    first = client.responses.create(model="gpt-5", input="Hi", conversation=conversation.id)
    second = client.responses.create(
        model="gpt-5", input="Hi", conversation={"id": conversation.id}
    )

    assert client.conversations.retrieve(conversation.id) == conversation
    assert first.usage is not None
    assert second.usage is not None
    assert second.conversation is not None
    assert second.conversation.id == conversation.id
    assert second.usage.input_tokens > first.usage.input_tokens
    client.conversations.delete(conversation.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="gpt-5", input="Hi", conversation=conversation.id)


def test_a_background_response_is_finished_when_somebody_has_looked(upstream: Upstream) -> None:
    response = respond(upstream, background=True)
    assert (response.status, response.usage) == ("queued", None)

    seen = [get(upstream, f"responses/{response.id}").document() for _ in range(2)]
    assert [document["status"] for document in seen] == ["in_progress", "completed"]
    assert response_check(seen[1]).usage is not None


def test_only_what_is_under_way_is_cancelled(client: OpenAI, upstream: Upstream) -> None:
    response = respond(upstream, background=True)
    assert client.responses.cancel(response.id).status == "cancelled"
    assert client.responses.retrieve(response.id).status == "cancelled"

    synchronous = respond(upstream)
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(synchronous.id)


def test_input_items_come_in_pages(client: OpenAI) -> None:
    given: Any = [{"role": "user", "content": f"message {number}"} for number in range(5)]
    response = client.responses.create(model="gpt-5", input=given)
    pages = client.responses.input_items.list(response.id, limit=2, order="asc")

    texts = [item.content[0].text for item in pages if item.type == "message"]  # type: ignore[union-attr]  # All are texts.
    assert texts == [f"message {number}" for number in range(5)]
    newest = client.responses.input_items.list(response.id, limit=2)
    assert newest.has_more
    assert newest.data[0].id == list(pages)[-1].id


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "order=up", "after=msg_1"])
def test_a_bad_page_is_refused(upstream: Upstream, query: str) -> None:
    response = respond(upstream)

    assert get(upstream, f"responses/{response.id}/input_items?{query}").status == 400


def test_a_test_says_what_becomes_of_later_calls(upstream: Upstream) -> None:
    tag = "later"
    response = respond(upstream, {"tag": tag, "later": {"status": 500}})

    for method in ("GET", "DELETE"):
        assert get(upstream, f"responses/{response.id}", method=method).status == 500
    assert upstream.requests(tag)["total"] == 3


def test_forgetting_forgets_responses(upstream: Upstream) -> None:
    response = respond(upstream)
    upstream.requests_forget()

    assert get(upstream, f"responses/{response.id}").status == 404


def test_an_old_response_makes_room_for_new_ones(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.requests_forget()
    monkeypatch.setattr(store, "KEPT_BYTES", 30_000)
    small = respond(upstream, input="small")
    second = respond(upstream, input="x" * 20_000)
    third = respond(upstream, input="y" * 20_000)

    found = [get(upstream, f"responses/{one.id}").status for one in (small, second, third)]
    assert found == [404, 404, 200]
    assert get(upstream, f"responses/{third.id}", method="DELETE").status == 200
    again = [respond(upstream, input=f"{number}") for number in range(3)]
    assert all(get(upstream, f"responses/{one.id}").status == 200 for one in again)


def test_how_often_requests_came_is_remembered_within_bounds() -> None:
    times = store.ResponseStore()
    for number in range(3):
        assert times.time_count("a") == number
    for number in range(70_000):
        times.time_count(str(number))

    assert times.time_count("a") == 0
    assert len(times._times) <= 65_536
