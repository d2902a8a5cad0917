"""Reading upstream's usage: every token in one bucket, and nothing impossible accepted."""

from typing import Any

import pytest

from billing.pricing import AbsurdUsage, Usage, unknown_usage_keys, usage_from_openai


def reported(
    prompt: object = 1000,
    completion: object = 100,
    *,
    prompt_details: object = None,
    completion_details: object = None,
    **more: object,
) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": prompt_details,
        "completion_tokens_details": completion_details,
        **more,
    }


def test_text_alone_is_input_and_output() -> None:
    usage = usage_from_openai({"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21})

    assert usage.units() == {"input_tokens": 9, "output_tokens": 12}
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (9, 12, 21)


def test_the_whole_object_of_a_chat_reply() -> None:
    usage = usage_from_openai(
        {
            "prompt_tokens": 2006,
            "completion_tokens": 300,
            "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 256,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }
    )

    assert usage == Usage(
        input_tokens=86,
        cached_input_tokens=1920,
        output_tokens=300,
        prompt_tokens=2006,
        completion_tokens=300,
        cached_tokens=1920,
        reasoning_tokens=256,
    )


def test_cached_tokens_are_not_counted_as_input_too() -> None:
    usage = usage_from_openai(reported(prompt_details={"cached_tokens": 1000}))

    assert usage.units() == {"cached_input_tokens": 1000, "output_tokens": 100}


def test_cache_writes_are_neither_input_nor_cached() -> None:
    usage = usage_from_openai(
        reported(prompt_details={"cached_tokens": 200, "cache_write_tokens": 700})
    )

    assert usage.units() == {
        "input_tokens": 100,
        "cached_input_tokens": 200,
        "cache_write_tokens": 700,
        "output_tokens": 100,
    }


def test_more_cache_writes_than_uncached_tokens_are_capped() -> None:
    usage = usage_from_openai(
        reported(prompt_details={"cached_tokens": 800, "cache_write_tokens": 1000})
    )

    assert usage.units() == {
        "cached_input_tokens": 800,
        "cache_write_tokens": 200,
        "output_tokens": 100,
    }


def test_audio_and_image_are_taken_out_of_text() -> None:
    usage = usage_from_openai(
        reported(
            prompt_details={"audio_tokens": 300, "image_tokens": 200, "text_tokens": 500},
            completion_details={"audio_tokens": 60, "image_tokens": 30, "reasoning_tokens": 5},
        )
    )

    assert usage.units() == {
        "input_tokens": 500,
        "input_audio_tokens": 300,
        "input_image_tokens": 200,
        "output_tokens": 10,
        "output_audio_tokens": 60,
        "output_image_tokens": 30,
    }
    assert usage.reasoning_tokens == 5


def test_cached_tokens_of_no_named_kind_are_text_then_image_then_audio() -> None:
    details = {"cached_tokens": 900, "image_tokens": 300, "audio_tokens": 200}

    usage = usage_from_openai(reported(prompt_details=details))

    assert usage.units() == {
        "cached_input_tokens": 500,
        "cached_input_image_tokens": 300,
        "cached_input_audio_tokens": 100,
        "input_audio_tokens": 100,
        "output_tokens": 100,
    }


def test_cached_tokens_of_a_named_kind_come_out_of_that_kind() -> None:
    details = {
        "cached_tokens": 400,
        "image_tokens": 300,
        "audio_tokens": 200,
        "cached_tokens_details": {"audio_tokens": 150, "image_tokens": 50, "text_tokens": 200},
    }

    usage = usage_from_openai(reported(prompt_details=details))

    assert usage.units() == {
        "input_tokens": 300,
        "cached_input_tokens": 200,
        "input_image_tokens": 250,
        "cached_input_image_tokens": 50,
        "input_audio_tokens": 50,
        "cached_input_audio_tokens": 150,
        "output_tokens": 100,
    }


def test_cache_writes_come_out_of_text_then_image_then_audio() -> None:
    details = {
        "cached_tokens": 400,
        "cache_write_tokens": 450,
        "image_tokens": 300,
        "audio_tokens": 200,
    }

    usage = usage_from_openai(reported(prompt_details=details))

    assert usage.units() == {
        "cached_input_tokens": 400,
        "cache_write_tokens": 450,
        "input_audio_tokens": 150,
        "output_tokens": 100,
    }


def test_rejected_predictions_are_output_already() -> None:
    details = {"accepted_prediction_tokens": 40, "rejected_prediction_tokens": 60}

    assert usage_from_openai(reported(completion_details=details)).output_tokens == 100


def test_zeros_are_usage_too() -> None:
    usage = usage_from_openai({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0})

    assert usage == Usage()


def test_an_embedding_reports_no_completion() -> None:
    usage = usage_from_openai({"prompt_tokens": 8, "total_tokens": 8}, with_completion=False)

    assert usage == Usage(input_tokens=8, prompt_tokens=8)


@pytest.mark.parametrize(
    "raw",
    [
        None,
        [],
        "usage",
        {},
        {"prompt_tokens": 8, "total_tokens": 8},
        {"completion_tokens": 8},
        reported(None),
        reported(completion=None),
        reported(-1),
        reported(True),
        reported(12.0),
        reported("12"),
        reported(10**7 + 1),
        reported(2**63),
        reported(completion=float("nan")),
        reported(completion=-5),
        reported(total_tokens=1101),
        reported(total_tokens=1100.0),
        reported(total_tokens="1100"),
        reported(prompt_details=[]),
        reported(prompt_details="none"),
        reported(prompt_details={"cached_tokens": 1001}),
        reported(prompt_details={"cached_tokens": -1}),
        reported(prompt_details={"cached_tokens": False}),
        reported(prompt_details={"cache_write_tokens": 1001}),
        reported(prompt_details={"cache_write_tokens": 1.0}),
        reported(prompt_details={"text_tokens": 1001}),
        reported(prompt_details={"audio_tokens": 501, "image_tokens": 500}),
        reported(prompt_details={"cached_tokens_details": {"audio_tokens": 1}}),
        reported(prompt_details={"cached_tokens": 5, "cached_tokens_details": 5}),
        reported(
            prompt_details={
                "cached_tokens": 5,
                "audio_tokens": 5,
                "image_tokens": 5,
                "cached_tokens_details": {"audio_tokens": 3, "image_tokens": 3},
            }
        ),
        reported(
            prompt_details={
                "cached_tokens": 5,
                "audio_tokens": 4,
                "cached_tokens_details": {"audio_tokens": 5},
            }
        ),
        reported(completion_details={"reasoning_tokens": 101}),
        reported(completion_details={"audio_tokens": 51, "image_tokens": 50}),
        reported(completion_details={"rejected_prediction_tokens": 101}),
        reported(completion_details={"accepted_prediction_tokens": -1}),
    ],
)
def test_what_cannot_be_true_is_refused_with_a_reason(raw: Any) -> None:
    with pytest.raises(AbsurdUsage) as refusal:
        usage_from_openai(raw)

    assert refusal.value.reason


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        ({"audio_tokens": 501, "image_tokens": 500}, "audio_tokens and image_tokens exceed"),
        ({"cached_tokens": 1001}, "cached_tokens exceed"),
        (
            {
                "cached_tokens": 5,
                "audio_tokens": 5,
                "image_tokens": 5,
                "cached_tokens_details": {"audio_tokens": 3, "image_tokens": 3},
            },
            "parts of cached_tokens exceed",
        ),
        ({"cached_tokens": "5"}, "cached_tokens are no count"),
    ],
)
def test_the_reason_names_the_count(details: dict[str, Any], reason: str) -> None:
    with pytest.raises(AbsurdUsage, match=reason):
        usage_from_openai(reported(prompt_details=details))


@pytest.mark.parametrize(
    "counts",
    [
        {"input_tokens": 1},
        {"prompt_tokens": 1},
        {"output_tokens": 1},
        {"cached_input_tokens": 1, "prompt_tokens": 1},
        {"cached_tokens": 1},
        {"output_tokens": 1, "completion_tokens": 1, "reasoning_tokens": 2},
        {"reasoning_tokens": -1},
        {"input_tokens": 2, "cache_write_tokens": -1, "prompt_tokens": 1},
        {"output_tokens": 2, "output_audio_tokens": -1, "completion_tokens": 1},
    ],
)
def test_no_usage_exists_whose_buckets_contradict_its_totals(counts: dict[str, int]) -> None:
    with pytest.raises(AbsurdUsage):
        Usage(**counts, counts={})


def test_counts_that_no_meter_knows_are_reported_and_billed_within_their_total() -> None:
    raw = reported(
        prompt_details={
            "video_tokens": 40,
            "cached_tokens": 10,
            "cached_tokens_details": {"video_tokens": 4, "text_tokens": 6},
        },
        completion_details={"music_tokens": 7, "silent_tokens": 0},
        search_tokens=3,
        cost_in_usd=1,
    )

    assert unknown_usage_keys(raw) == (
        "completion_tokens_details.music_tokens",
        "prompt_tokens_details.cached_tokens_details.video_tokens",
        "prompt_tokens_details.video_tokens",
        "search_tokens",
    )
    assert usage_from_openai(raw).units() == {
        "input_tokens": 990,
        "cached_input_tokens": 10,
        "output_tokens": 100,
    }


@pytest.mark.parametrize("raw", [None, 5, [], {"prompt_tokens_details": None}, reported()])
def test_nothing_unknown_is_reported_of_what_is_known_or_no_object(raw: object) -> None:
    assert unknown_usage_keys(raw) == ()
