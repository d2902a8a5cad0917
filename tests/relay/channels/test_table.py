"""Which channels serve a model."""

from relay.channels.table import ChannelRoute, ChannelTable
from relay.upstream import Destination


def route(name: str, *models: str, simulated: bool = False) -> ChannelRoute:
    return ChannelRoute(
        id=hash(name),
        name=name,
        simulated=simulated,
        destination=Destination(host="127.0.0.1", port=1),
        base_path=b"/v1",
        authorization=b"Bearer x",
        serves_all_models=not models,
        upstream_models={model: f"{model}-upstream" for model in models},
        priority=0,
        weight=1,
        cost_ppm=1_000_000,
    )


def names(table: ChannelTable, model: str) -> list[str]:
    return [found.name for found in table.candidates(model)]


def test_a_channel_serves_what_it_lists_or_everything() -> None:
    table = ChannelTable([route("some", "a"), route("all")])
    assert names(table, "a") == ["some", "all"]
    assert names(table, "b") == ["all"]


def test_nobody_gets_invented_answers_where_a_real_upstream_serves() -> None:
    table = ChannelTable([route("simulator", simulated=True), route("real", "a")])
    assert names(table, "a") == ["real"]
    assert names(table, "b") == ["simulator"]


def test_the_upstream_has_its_own_name_for_a_model() -> None:
    assert route("some", "a").upstream_model("a") == "a-upstream"
    assert route("all").upstream_model("a") == "a"
