"""Price feeds: read exactly, compared, and taken over only when somebody has approved them."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError

from accounts.models import AuditEvent
from billing.models import Price, PriceImport
from billing.prices.book_loading import price_book_load
from billing.prices.feeds import (
    InvalidFeed,
    UnableToImport,
    feed_read,
    price_import_approve,
    price_import_open,
    price_import_reject,
)
from billing.prices.services import price_set
from tests.commands import ask, say
from tests.factories import ACTOR, now

SOURCE = "https://prices.example/map.json"
GPT = {
    "litellm_provider": "openai",
    "mode": "chat",
    "input_cost_per_token": 2.5e-06,
    "output_cost_per_token": 1e-05,
    "max_input_tokens": 128000,
    "max_output_tokens": 16384,
}


def opened(feed: Any, *, form: str = "litellm") -> PriceImport:
    return price_import_open(
        text=json.dumps(feed), form=form, source=SOURCE, actor=ACTOR, now=now()
    )


def approve(pending: PriceImport) -> None:
    price_import_approve(import_id=pending.pk, actor=ACTOR, now=now())


def tiers_of(model: str) -> Any:
    return Price.objects.get(model=model, effective_to=None).tiers


def test_litellm_prices_are_read_exactly() -> None:
    entry = GPT | {
        "cache_read_input_token_cost": 1.25e-06,
        "input_cost_per_token_flex": 1.25e-06,
        "output_cost_per_token_flex": 5e-06,
        "output_cost_per_token_priority": 2e-05,  # Half a tier: it cannot be sold.
        "input_cost_per_token_above_272k_tokens": 5e-06,
        "output_cost_per_token_above_272k_tokens": 1.5e-05,
        "deprecation_date": "2027-01-31",
        "supported_endpoints": ["/v1/chat/completions", "/v1/batch"],
    }
    [read] = feed_read(
        json.dumps({"gpt-x": entry}), form="litellm", source=SOURCE, today=dt.date(2026, 11, 20)
    )
    row = read.row
    assert row is not None, read.refused
    assert row.tiers == {
        "default": {"input_tokens": "2.5", "cached_input_tokens": "1.25", "output_tokens": "10"},
        "flex": {"input_tokens": "1.25", "output_tokens": "5"},
    }
    assert row.long_context == {
        "above_tokens": 272_000,
        "tiers": {"default": {"input_tokens": "5", "output_tokens": "15"}},
    }
    assert (row.endpoints, row.context_tokens) == (("chat/completions",), 128_000)
    assert row.deprecated_on == dt.date(2027, 1, 31)


def test_other_units_are_read_by_what_they_are_quoted_by() -> None:
    feed = {
        "tts-x": {
            "litellm_provider": "openai",
            "mode": "audio_speech",
            "input_cost_per_character": 1.5e-05,
        },
        # It quotes one price twice, and it is paid once.
        "whisper-x": {
            "litellm_provider": "openai",
            "mode": "audio_transcription",
            "input_cost_per_second": 0.0001,
            "output_cost_per_second": 0.0001,
        },
        "embed-x": {
            "litellm_provider": "openai",
            "mode": "embedding",
            "input_cost_per_token": 2e-08,
        },
    }
    rows = feed_read(json.dumps(feed), form="litellm", source=SOURCE, today=now().date())
    found = {row.model: row.row for row in rows}
    assert found["tts-x"] is not None
    assert found["tts-x"].unit_rates == {"characters": "15"}
    assert found["whisper-x"] is not None
    assert found["whisper-x"].unit_rates == {"input_audio_milliseconds": "0.006"}
    assert found["embed-x"] is not None
    assert found["embed-x"].tiers["default"] == {"input_tokens": "0.02", "output_tokens": "0"}


@pytest.mark.django_db
def test_nothing_changes_before_somebody_approves_it() -> None:
    pending = opened({"gpt-x": GPT})
    assert not Price.objects.exists()
    [change] = pending.changes
    assert (change["model"], change["is_new"]) == ("gpt-x", True)
    assert change["preview"] == "1K in + 1K out = $0.0125"
    assert change["changes"] == [
        "default input_tokens: none → $2.5 per 1M",
        "default output_tokens: none → $10 per 1M",
    ]
    approve(pending)
    assert tiers_of("gpt-x") == {"default": {"input_tokens": "2.5", "output_tokens": "10"}}
    assert AuditEvent.objects.filter(action="price_import.approve").count() == 1

    later = opened({"gpt-x": GPT | {"output_cost_per_token": 8e-06}})
    [change] = later.changes
    assert change["changes"] == ["default output_tokens: $10 → $8 per 1M"]
    approve(later)
    assert tiers_of("gpt-x")["default"]["output_tokens"] == "8"
    assert Price.objects.filter(model="gpt-x").count() == 2
    assert opened({"gpt-x": GPT | {"output_cost_per_token": 8e-06}}).unchanged == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("price", "is_refused"),
    [(2.5e-08, True), (2.5e-04, True), (0, True), (2.4e-04, False), (2.6e-08, False)],
)
def test_b31_a_price_a_hundred_times_off_is_refused(price: float, is_refused: bool) -> None:
    approve(opened({"gpt-x": GPT}))
    pending = opened({"gpt-x": GPT | {"input_cost_per_token": price}, "gpt-y": GPT})
    assert [row["model"] for row in pending.refused] == (["gpt-x"] if is_refused else [])
    if is_refused:
        assert "100 times" in pending.refused[0]["reason"]
    approve(pending)
    assert tiers_of("gpt-y")
    assert (tiers_of("gpt-x")["default"]["input_tokens"] == "2.5") is is_refused


@pytest.mark.django_db
@pytest.mark.parametrize(
    "change",
    [
        {"input_cost_per_token": -1e-06},
        {"input_cost_per_token": "free"},
        {"input_cost_per_token": True},
        {"input_cost_per_token": 1.0},
        {"max_input_tokens": -5},
        {"deprecation_date": "soon"},
        {"output_cost_per_token": None},
    ],
)
def test_a_row_that_makes_no_sense_is_told_and_keeps_nobody_else(change: dict[str, Any]) -> None:
    pending = opened({"gpt-x": GPT | change, "gpt-y": GPT})
    assert [row["model"] for row in pending.refused] == ["gpt-x"]
    assert [row["model"] for row in pending.changes] == ["gpt-y"]


@pytest.mark.django_db
def test_the_operators_own_price_has_the_last_word() -> None:
    price_set(model="gpt-x", input_usd="1", output_usd="1", actor=ACTOR, now=now())
    pending = opened({"gpt-x": GPT})
    assert "last word" in pending.refused[0]["reason"]


@pytest.mark.django_db
def test_a_feed_says_nothing_of_what_it_leaves_out() -> None:
    price_book_load(actor=ACTOR, now=now())
    before = Price.objects.get(model="gpt-4o-mini")
    assert before.unit_rates
    pending = opened(
        {"gpt-4o-mini": GPT | {"input_cost_per_token": 1.4e-07, "output_cost_per_token": 6e-07}}
    )
    [change] = pending.changes
    assert change["changes"] == ["default input_tokens: $0.15 → $0.14 per 1M"]
    approve(pending)
    after = Price.objects.get(model="gpt-4o-mini", effective_to=None)
    assert after.tiers["default"] == before.tiers["default"] | {"input_tokens": "0.14"}
    assert after.tiers.keys() == before.tiers.keys()
    assert (after.unit_rates, after.endpoints) == (before.unit_rates, before.endpoints)


@pytest.mark.django_db
def test_our_own_book_changes_nothing_where_it_is_loaded() -> None:
    price_book_load(actor=ACTOR, now=now())
    book = json.loads(Path("billing/prices/book/openai.json").read_text(encoding="utf-8"))
    pending = opened(book, form="tollgate")
    assert (pending.changes, pending.refused) == ([], [])
    assert pending.unchanged == len(book)


@pytest.mark.django_db
def test_an_import_is_decided_once() -> None:
    pending = opened({"gpt-x": GPT})
    price_import_reject(import_id=pending.pk, actor=ACTOR, now=now())
    with pytest.raises(UnableToImport, match="rejected already"):
        approve(pending)
    with pytest.raises(UnableToImport, match="no price import"):
        price_import_reject(import_id=0, actor=ACTOR, now=now())
    assert not Price.objects.exists()


@pytest.mark.parametrize(
    ("text", "form", "source"),
    [
        ("", "litellm", SOURCE),
        ("[]", "litellm", SOURCE),
        ("{}", "litellm", SOURCE),
        ("{}", "tollgate", SOURCE),
        ("[1]", "tollgate", SOURCE),
        ("[" * 100_000, "tollgate", SOURCE),
        (json.dumps({"gpt-x": GPT}), "yaml", SOURCE),
        (json.dumps({"gpt-x": GPT}), "litellm", "somewhere"),
    ],
)
def test_a_feed_that_is_none_is_refused(text: str, form: str, source: str) -> None:
    with pytest.raises(InvalidFeed):
        feed_read(text, form=form, source=source, today=dt.date(2026, 11, 20))


@pytest.mark.django_db
def test_the_commands_show_and_take_over(tmp_path: Path) -> None:
    feed = tmp_path / "map.json"
    feed.write_text(json.dumps({"gpt-x": GPT, "gpt-y": GPT | {"input_cost_per_token": -1}}))
    text = say("price_import", str(feed))
    assert "gpt-x (new)  1K in + 1K out = $0.0125" in text
    assert "refused gpt-y" in text
    answer = ask("price_import", str(feed), "--source", SOURCE)
    assert (answer["changed"], answer["refused"]) == (["gpt-x"], ["gpt-y"])
    decided = ask("price_import_decide", str(answer["import"]), "approve")
    assert (decided["added"], decided["changed"]) == (1, 0)
    with pytest.raises(CommandError, match="approved already"):
        ask("price_import_decide", str(answer["import"]), "reject")
    with pytest.raises(CommandError, match="cannot be read"):
        ask("price_import", str(tmp_path / "none.json"))
