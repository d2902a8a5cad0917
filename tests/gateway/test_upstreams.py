import pytest

from accounts.models import AuditEvent
from gateway.upstreams import ENVIRONMENT_CHANNEL, SIMULATOR_CHANNEL, Upstream, upstream_prepare
from relay.channels.base_urls import InvalidBaseUrl
from relay.channels.encryption import credential_decrypt
from relay.channels.services import NewChannel, channel_add, channel_disable
from relay.models import Channel, ChannelCredential
from tests.factories import ACTOR

pytestmark = pytest.mark.django_db
SIMULATOR = "http://127.0.0.1:4001/v1"


@pytest.fixture(autouse=True)
def no_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def prepare(simulator_url: str | None = SIMULATOR) -> Upstream:
    return upstream_prepare(simulator_url=simulator_url, actor=ACTOR)


def enabled() -> dict[str, str]:
    return dict(Channel.objects.filter(enabled=True).values_list("name", "base_url"))


def credential() -> str:
    return credential_decrypt(
        Channel.objects.get(name=ENVIRONMENT_CHANNEL).credentials.get().encrypted
    )


def test_without_a_credential_it_is_simulated() -> None:
    assert prepare() is Upstream.SIMULATED
    channel = Channel.objects.get()
    assert (channel.name, channel.provider, channel.enabled) == ("simulator", "simulator", True)
    assert channel.priority < 0
    assert channel.serves_all_models


def test_the_simulator_may_move() -> None:
    prepare()
    assert prepare("http://127.0.0.1:4002/v1") is Upstream.SIMULATED
    assert enabled() == {SIMULATOR_CHANNEL: "http://127.0.0.1:4002/v1"}


def test_a_start_without_changes_changes_nothing() -> None:
    prepare()
    before = AuditEvent.objects.count()
    prepare()
    assert AuditEvent.objects.count() == before


def test_a_credential_replaces_the_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-one")
    assert prepare(None) is Upstream.ENVIRONMENT
    assert enabled() == {ENVIRONMENT_CHANNEL: "https://api.openai.com/v1"}
    assert credential() == "sk-one"


def test_a_credential_and_its_address_may_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-one")
    prepare(None)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-two")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://upstream.example/v1/")
    assert prepare(None) is Upstream.ENVIRONMENT
    assert enabled() == {ENVIRONMENT_CHANNEL: "https://upstream.example/v1"}
    assert credential() == "sk-two"
    assert "sk-two" not in str(list(AuditEvent.objects.values("details")))


def test_a_lost_encryption_key_is_no_obstacle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-one")
    prepare(None)
    ChannelCredential.objects.update(encrypted=b"from another key")
    assert prepare(None) is Upstream.ENVIRONMENT
    assert credential() == "sk-one"


def test_a_credential_that_is_gone_leaves_its_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-one")
    prepare(None)
    monkeypatch.delenv("OPENAI_API_KEY")
    assert prepare() is Upstream.CHANNELS
    assert enabled() == {ENVIRONMENT_CHANNEL: "https://api.openai.com/v1"}


def test_what_the_operator_disabled_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-one")
    prepare(None)
    channel_disable(name=ENVIRONMENT_CHANNEL, actor=ACTOR)
    assert prepare(None) is Upstream.NONE
    assert enabled() == {}


def test_a_channel_for_all_models_ends_the_simulation() -> None:
    prepare()
    _add("mine")
    assert prepare() is Upstream.CHANNELS
    assert set(enabled()) == {"mine"}
    channel_disable(name="mine", actor=ACTOR)
    assert prepare() is Upstream.SIMULATED


def test_a_channel_for_some_models_does_not() -> None:
    _add("mine", models=["gpt-4o"])
    assert prepare() is Upstream.SIMULATED
    assert set(enabled()) == {"mine", SIMULATOR_CHANNEL}


def test_somebodys_own_database_is_never_simulated() -> None:
    prepare()
    assert prepare(None) is Upstream.NONE
    assert enabled() == {}


def test_a_plain_address_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-one")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://upstream.example/v1")
    with pytest.raises(InvalidBaseUrl):
        prepare(None)


def _add(name: str, models: list[str] | None = None) -> None:
    new = NewChannel(
        name=name, base_url="https://upstream.example/v1", credential="x", models=models or ()
    )
    channel_add(new=new, actor=ACTOR)
