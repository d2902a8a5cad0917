import pytest

from relay.channels.azure import azure_target


@pytest.mark.parametrize(
    ("endpoint", "target"),
    [
        (b"/chat/completions", b"/openai/deployments/my-gpt/chat/completions?api-version=V"),
        (b"/embeddings", b"/openai/deployments/my-gpt/embeddings?api-version=V"),
        (b"/audio/speech", b"/openai/deployments/my-gpt/audio/speech?api-version=V"),
        (b"/images/edits", b"/openai/deployments/my-gpt/images/edits?api-version=V"),
        (b"/responses", b"/openai/responses?api-version=V"),
        (b"/responses/r?include[]=a", b"/openai/responses/r?include[]=a&api-version=V"),
    ],
)
def test_a_model_has_a_deployment(endpoint: bytes, target: bytes) -> None:
    assert azure_target(endpoint, deployment="my-gpt", api_version="V") == target


def test_a_deployment_cannot_leave_its_place() -> None:
    target = azure_target(b"/embeddings", deployment="../x?a=b#c", api_version="V")
    assert target == b"/openai/deployments/..%2Fx%3Fa%3Db%23c/embeddings?api-version=V"


def test_the_v1_api_has_openais_paths() -> None:
    assert (
        azure_target(b"/chat/completions", deployment="x", api_version="") == b"/chat/completions"
    )
