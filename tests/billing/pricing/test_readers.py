"""Reading the usage of responses, images, speech and transcripts: each token in one bucket."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from billing.pricing import (
    MAX_TOKENS,
    AbsurdUsage,
    Usage,
    milliseconds,
    unknown_usage_counts,
    unknown_usage_keys,
    usage_from_embeddings,
    usage_from_images,
    usage_from_openai,
    usage_from_responses,
    usage_from_speech,
    usage_from_transcription,
)


def reported(given: object = 100, made: object = 20, **more: object) -> dict[str, Any]:
    return {"input_tokens": given, "output_tokens": made, **more}


# --- Embeddings ----------------------------------------------------------------------------------


def test_embeddings_have_a_prompt_only() -> None:
    usage = usage_from_embeddings({"prompt_tokens": 8, "total_tokens": 8})
    assert usage.units() == {"input_tokens": 8}
    with pytest.raises(AbsurdUsage):
        usage_from_embeddings({"prompt_tokens": 8, "total_tokens": 9})


# --- Responses -----------------------------------------------------------------------------------


def test_the_whole_usage_of_a_response() -> None:
    usage = usage_from_responses(
        {
            "input_tokens": 2006,
            "input_tokens_details": {"cached_tokens": 1500, "cache_write_tokens": 400},
            "output_tokens": 300,
            "output_tokens_details": {"reasoning_tokens": 256},
            "total_tokens": 2306,
        }
    )
    assert usage == Usage(
        input_tokens=106,
        cached_input_tokens=1500,
        cache_write_tokens=400,
        output_tokens=300,
        prompt_tokens=2006,
        completion_tokens=300,
        cached_tokens=1500,
        reasoning_tokens=256,
    )


def test_a_response_and_a_chat_of_the_same_tokens_are_the_same_usage() -> None:
    given = {
        "cached_tokens": 30,
        "cache_write_tokens": 50,
        "audio_tokens": 20,
        "image_tokens": 40,
        "cached_tokens_details": {"audio_tokens": 5, "image_tokens": 6, "text_tokens": 19},
    }
    made = {"reasoning_tokens": 7, "audio_tokens": 3, "image_tokens": 4}
    assert usage_from_responses(
        reported(input_tokens_details=given, output_tokens_details=made, total_tokens=120)
    ) == usage_from_openai(
        {
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "total_tokens": 120,
            "prompt_tokens_details": given,
            "completion_tokens_details": made,
        }
    )


# --- Images --------------------------------------------------------------------------------------


def test_output_of_an_image_model_is_images_unless_it_says_text() -> None:
    """Others charge it at the rate of text, a quarter of it, where there is no breakdown."""
    assert usage_from_images(reported(50, 4160)).units() == {
        "input_tokens": 50,
        "output_image_tokens": 4160,
    }
    details = {"image_tokens": 4000, "text_tokens": 100}
    split = usage_from_images(reported(50, 4160, output_tokens_details=details))
    assert split.units() == {
        "input_tokens": 50,
        "output_tokens": 100,
        "output_image_tokens": 4060,
    }
    nothing = {"image_tokens": 0, "text_tokens": 0}
    zeros = usage_from_images(reported(50, 4160, output_tokens_details=nothing))
    assert zeros.units()["output_image_tokens"] == 4160


def test_text_and_images_that_an_image_model_reads_are_apart_and_cached_once() -> None:
    details = {
        "text_tokens": 100,
        "image_tokens": 900,
        "cached_tokens": 300,
        "cached_tokens_details": {"text_tokens": 50, "image_tokens": 250},
    }
    usage = usage_from_images(reported(1000, 10, input_tokens_details=details))
    assert usage.units() == {
        "input_tokens": 50,
        "cached_input_tokens": 50,
        "input_image_tokens": 650,
        "cached_input_image_tokens": 250,
        "output_image_tokens": 10,
    }


def test_input_without_a_breakdown_is_the_dearer_kind_where_images_were_sent() -> None:
    assert usage_from_images(reported(1000, 10)).units()["input_tokens"] == 1000
    edit = usage_from_images(reported(1000, 10), has_input_images=True)
    assert edit.units() == {"input_image_tokens": 1000, "output_image_tokens": 10}
    details = {"text_tokens": 100, "image_tokens": 900}
    named = usage_from_images(
        reported(1000, 10, input_tokens_details=details), has_input_images=True
    )
    assert named.units()["input_tokens"] == 100


def test_images_without_output_tokens_are_no_usage() -> None:
    """Others read a usage of zeros as a free image."""
    assert usage_from_images(reported(0, 0)).units() == {}
    with pytest.raises(AbsurdUsage):
        usage_from_images(reported(50, 0), images=1)


# --- Speech and transcripts ----------------------------------------------------------------------


def test_a_voice_reads_text_and_makes_audio() -> None:
    usage = usage_from_speech({"input_tokens": 14, "output_tokens": 101, "total_tokens": 115})
    assert usage.units() == {"input_tokens": 14, "output_audio_tokens": 101}


def test_a_transcript_by_tokens_is_of_audio_and_text() -> None:
    usage = usage_from_transcription(
        {
            "type": "tokens",
            "input_tokens": 14,
            "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
            "output_tokens": 101,
            "total_tokens": 115,
        }
    )
    assert usage.units() == {"input_tokens": 4, "input_audio_tokens": 10, "output_tokens": 101}


@pytest.mark.parametrize("name", ["input_token_details", "input_tokens_details"])
def test_what_a_transcript_does_not_break_down_is_audio(name: str) -> None:
    plain = usage_from_transcription(reported(14, 5, type="tokens"))
    assert plain.units() == {"input_audio_tokens": 14, "output_tokens": 5}
    part = usage_from_transcription(reported(14, 5, type="tokens", **{name: {"text_tokens": 4}}))
    assert part.units() == {"input_tokens": 4, "input_audio_tokens": 10, "output_tokens": 5}


@pytest.mark.parametrize(
    ("seconds", "count"),
    [
        ("9", 9_000),
        ("0", 0),
        ("8.470000267028809", 8_471),
        ("0.0001", 1),
        ("1.5e1", 15_000),
        ("12.0", 12_000),
    ],
)
def test_a_transcript_by_duration_is_milliseconds_rounded_up(seconds: str, count: int) -> None:
    body = f'{{"type": "duration", "seconds": {seconds}}}'
    usage = usage_from_transcription(msgspec.json.Decoder(float_hook=Decimal).decode(body))
    assert usage.units() == ({"input_audio_milliseconds": count} if count else {})
    assert usage.total_tokens == 0


@pytest.mark.parametrize(
    "seconds",
    [None, True, "9", 9.5, -1, Decimal("-0.001"), Decimal("NaN"), Decimal("Infinity"), 10**7],
)
def test_what_is_no_duration_is_refused(seconds: object) -> None:
    with pytest.raises(AbsurdUsage):
        milliseconds(seconds)
    with pytest.raises(AbsurdUsage):
        usage_from_transcription({"type": "duration", "seconds": seconds})


# --- All of them ---------------------------------------------------------------------------------

READERS: list[Callable[[object], Usage]] = [
    usage_from_responses,
    usage_from_images,
    usage_from_speech,
    usage_from_transcription,
]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "raw",
    [
        None,
        5,
        [],
        {},
        {"input_tokens": 5},
        {"output_tokens": 5},
        reported(-1),
        reported(True),
        reported(1.0),
        reported("5"),
        reported(MAX_TOKENS + 1),
        reported(made=MAX_TOKENS + 1),
        reported(total_tokens=121),
        reported(input_tokens_details=5),
        reported(input_tokens_details={"cached_tokens": 101}),
        reported(input_tokens_details={"image_tokens": 60, "audio_tokens": 60}),
        reported(input_tokens_details={"image_tokens": -1}),
        reported(output_tokens_details=[]),
        reported(output_tokens_details={"audio_tokens": 21}),
        reported(output_tokens_details={"image_tokens": 15, "audio_tokens": 15}),
        reported(output_tokens_details={"reasoning_tokens": 21}),
    ],
)
def test_what_cannot_be_true_is_refused(read: Callable[[object], Usage], raw: object) -> None:
    with pytest.raises(AbsurdUsage):
        read(raw)


@pytest.mark.parametrize("read", READERS)
def test_zeros_and_absent_details_are_fine(read: Callable[[object], Usage]) -> None:
    raw = reported(0, 0, total_tokens=0, input_tokens_details=None, output_tokens_details={})
    assert read(raw) == Usage()


# --- What nobody knows ---------------------------------------------------------------------------


def test_unknown_counts_are_kept_with_their_place_and_number() -> None:
    raw = reported(
        input_tokens_details={"video_tokens": 40, "cached_tokens": 10},
        output_tokens_details={"music_tokens": 7, "silent_tokens": 0},
        server_tool_use={"web_search_requests": 3, "note": "x"},
        num_sources=5,
        search_queries=2,
        odd_tokens="many",
        cost=0.3,
    )
    assert unknown_usage_counts(raw) == {
        "unknown/input_tokens_details.video_tokens": 40,
        "unknown/output_tokens_details.music_tokens": 7,
        "unknown/search_queries": 2,
        "unknown/server_tool_use.web_search_requests": 3,
    } | {"unknown/num_sources": 5}
    assert "odd_tokens" in unknown_usage_keys(raw)
    usage = usage_from_responses(raw)
    assert usage.units() == {"input_tokens": 90, "cached_input_tokens": 10, "output_tokens": 20}


@pytest.mark.parametrize(
    "raw",
    [
        None,
        {"type": "duration", "seconds": 5},
        {"type": "tokens", **reported(input_token_details={"audio_tokens": 5, "text_tokens": 0})},
        reported(
            total_tokens=120,
            input_tokens_details={"cached_tokens": 1, "cache_write_tokens": 2},
            output_tokens_details={"reasoning_tokens": 3},
        ),
    ],
)
def test_what_the_readers_know_is_not_unknown(raw: object) -> None:
    assert unknown_usage_keys(raw) == ()
    assert unknown_usage_counts(raw) == {}


def test_nobody_can_make_a_record_grow_by_unknown_counts() -> None:
    many = {f"{'x' * 500}{number}_tokens": number + 1 for number in range(500)}
    deep: dict[str, Any] = {"y_tokens": 1}
    for _ in range(500):
        deep = {"deeper": deep}
    kept = unknown_usage_counts(many | deep | {"huge_calls": 10**30, "less_calls": -1})
    assert len(kept) <= 20
    assert all(len(name) <= 100 for name in kept)
    assert Usage(counts=kept).units() == kept
