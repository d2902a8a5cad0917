"""One path table, from what users type as a base URL and clients append to it."""

import pytest

from relay.paths import RESERVED_SLUGS, Match, allowed_methods, match

PREFIXES = (
    "",
    "/v1",
    "/openai/v1",
    "/openai",
    "/api/openai/v1",
    "/v1/acme/prod/openai",
    "/v1/acme/prod/openai/v1",
)
OPERATIONS = {
    "/chat/completions": "chat_completions",
    "/completions": "completions",
    "/embeddings": "embeddings",
    "/moderations": "moderations",
    "/models": "models",
    "/models/gpt-4o": "model",
    "/dashboard/billing/usage": "billing_usage",
    "/dashboard/billing/subscription": "billing_subscription",
    "/dashboard/billing/credit_grants": "billing_credit_grants",
}
NOT_BARE = {"/usage": "usage", "/usage/records": "usage_records"}


def operation(path: str) -> str | None:
    matched = match(path)
    return matched.operation if matched else None


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(("end", "expected"), [*OPERATIONS.items(), *NOT_BARE.items()])
def test_every_operation_under_every_prefix(prefix: str, end: str, expected: str) -> None:
    if not prefix and end in NOT_BARE:
        assert match(end) is None
        return
    matched = match(prefix + end)
    assert matched is not None
    assert matched.operation == expected
    owner = ("acme", "prod") if "acme" in prefix else (None, None)
    assert (matched.organization, matched.project) == owner
    assert matched.rest == end


@pytest.mark.parametrize(
    "path",
    [
        "/v1/v1/chat/completions",
        "/v1/v1/v1/chat/completions",
        "//chat/completions",
        "/v1//chat/completions",
        "/v1/chat//completions",
        "/v1/chat/completions/",
        "/openai/v1/v1/chat/completions",
        "/v1/acme/prod/openai/v1/v1/chat/completions",
        "/v1/chat/completions/chat/completions",
        "/v1/chat/completions/v1/chat/completions",
        "/chat/completions/chat/completions/chat/completions/",
    ],
)
def test_what_clients_make_of_a_base_url_is_folded(path: str) -> None:
    matched = match(path)
    assert matched is not None
    assert matched.operation == "chat_completions"
    assert matched.rest == "/chat/completions"


@pytest.mark.parametrize(
    ("path", "expected", "rest"),
    [
        ("/v1/chat/completions/models", "models", "/models"),
        ("/v1/chat/completions/v1/models", "models", "/models"),
        ("/v1/responses/responses", "responses", "/responses"),
        ("/v1/responses/v1/responses/compact", "responses_compact", "/responses/compact"),
        ("/openai/v1/embeddings/embeddings", "embeddings", "/embeddings"),
        ("/v1/completions/chat/completions", "chat_completions", "/chat/completions"),
        ("/v1/chat/completions/embeddings/", "embeddings", "/embeddings"),
    ],
)
def test_a_whole_endpoint_may_have_been_typed_as_the_base(
    path: str, expected: str, rest: str
) -> None:
    matched = match(path)
    assert matched is not None
    assert (matched.operation, matched.rest) == (expected, rest)


@pytest.mark.parametrize(
    ("path", "argument"),
    [
        ("/v1/models/gpt-4o", "gpt-4o"),
        ("/v1/models/openai/gpt-4o", "openai/gpt-4o"),
        ("/v1/models/ft:gpt-4o-mini:acme::Ab1", "ft:gpt-4o-mini:acme::Ab1"),
        ("/models/a/b/c:d/", "a/b/c:d"),
        ("/v1/models/acme/openai", "acme/openai"),
        ("/v1/models/acme/openai/models", "acme/openai/models"),
        ("/v1/acme/prod/openai/models/x/y", "x/y"),
        ("/v1/models/v1/x", "v1/x"),
    ],
)
def test_a_model_id_may_contain_slashes_and_colons(path: str, argument: str) -> None:
    matched = match(path)
    assert matched is not None
    assert (matched.operation, matched.argument) == ("model", argument)


@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v1/",
        "/openai",
        "/api/openai",
        "/v1/files",
        "/v1/conversations/conv_1",
        "/v1/embeddings/1",
        "/v1/responses/resp_1/retry",
        "/v1/fim/completions",
        "/v1/chat",
        "/v1/chat/completions/chatcmpl-1",
        "/v1/acme/prod/openai",
        "/v1/acme/prod",
        "/v1/acme/openai/chat/completions",
        "/v1/dashboard/billing",
        "/v1/usage/records/1",
        "/v1/../admin/login",
        "/v1/models/../../admin",
        "/v1/./models",
        "/v1/chat/completions/../completions",
    ],
)
def test_the_relay_answers_for_what_it_does_not_offer(path: str) -> None:
    assert operation(path) == "unknown"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/admin/",
        "/usage",
        "/dashboard",
        "/dashboard/billing",
        "/dashboard/billing/x",
        "/chat",
        "/api",
        "/api/v1/chat/completions",
        "/healthz",
        "/v1x/models",
        "/../v1/models",
        "/V1/models",
        "/static/v1/models",
        "/acme/prod/openai/chat/completions",
    ],
)
def test_other_paths_are_left_to_the_others(path: str) -> None:
    assert match(path) is None


@pytest.mark.parametrize("slug", ["models", "chat", "usage", "openai", "dashboard", "organization"])
def test_no_reserved_slug_is_taken_for_an_organization(slug: str) -> None:
    assert slug in RESERVED_SLUGS
    matched = match(f"/v1/{slug}/prod/openai/chat/completions")
    assert matched is not None
    assert matched.organization is None


def test_the_longest_prefix_wins() -> None:
    assert match("/v1/acme/v1/openai/v1/models") == Match("models", "acme", "v1", None, "/models")


def test_methods() -> None:
    assert allowed_methods("chat_completions") == ("POST",)
    assert "GET" in allowed_methods("model")
    assert "HEAD" in allowed_methods("billing_usage")
    assert "POST" not in allowed_methods("usage_records")
    assert allowed_methods("unknown") == ()
