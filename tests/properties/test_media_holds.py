"""Whatever is asked for of the official price book, a strict hold covers what upstream bills.

What upstream bills is written down here from what it publishes, not taken from our bounds: tokens
of a picture by quality and size, of each partial one, of a picture that is sent in high fidelity;
20.8 tokens for a second of a voice, of which people say 4 to 30 characters in a second.
"""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from billing.prices import book as price_book
from billing.prices.catalog import Quote
from relay.endpoints.handlers import HANDLERS
from relay.endpoints.image_forms import parse_edit
from relay.endpoints.images import image_answer, parse_generation
from relay.endpoints.sounds import Sound
from relay.endpoints.speech import VoiceStreamMeter, parse_speech
from relay.metering.reservation import HoldPolicy
from relay.metering.settlement import price

BOOK = {row.model: row for row in price_book.load()}
POLICY = HoldPolicy(standard_output_tokens=1_000, unknown_max_output_tokens=16_000)
DISCOUNT_PPM = 333_333

MADE = {
    ("low", "1024x1024"): 272,
    ("low", "1024x1536"): 408,
    ("low", "1536x1024"): 400,
    ("medium", "1024x1024"): 1_056,
    ("medium", "1024x1536"): 1_584,
    ("medium", "1536x1024"): 1_568,
    ("high", "1024x1024"): 4_160,
    ("high", "1024x1536"): 6_240,
    ("high", "1536x1024"): 6_208,
}
PARTIAL = 100
# 85 and 170 for each of 8 tiles, and what high fidelity adds for a picture that is not square.
SENT = 85 + 8 * 170 + 6_240
BY_TOKENS = [model for model in BOOK if model.startswith(("gpt-image", "chatgpt-image"))]
BY_PICTURE = {
    "dall-e-2": ["256x256", "512x512", "1024x1024"],
    "dall-e-3": ["1024x1024", "1792x1024", "1024x1792"],
}
NOT_SAID = ("auto", None)
VOICES = [model for model in BOOK if "tts" in model]
TOKENS_PER_MINUTE = 1_250


def quote_of(model: str) -> Quote:
    return Quote(BOOK[model].terms(price_id=1), DISCOUNT_PPM)


def encoded(fields: dict[str, Any]) -> bytes:
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


def is_held(handler: Any, request: Any, reading: Any) -> bool:
    """Whether the hold covers the charge of this answer, which costs something."""
    quote = quote_of(request.model)
    reservation = handler.reserve(request, quote, organization_id=1, policy=POLICY)
    measure = handler.measure(request, reading, quote, produced=True)
    assert measure.source == "upstream"
    charged = price(measure, quote, served_tier=None, cost_ppm=0).cost_nano_usd
    most: int = reservation.hold.strict.minimum_nano_usd
    return 0 < charged <= most


@given(st.data())
def test_pictures_by_their_tokens(data: st.DataObject) -> None:
    (quality, size), each = data.draw(st.sampled_from(list(MADE.items())))
    count, partial = data.draw(st.integers(1, 10)), data.draw(st.integers(0, 3))
    sent = data.draw(st.integers(0, 16))
    words = data.draw(st.text(min_size=1, max_size=200))
    fields = {
        "model": data.draw(st.sampled_from(BY_TOKENS)),
        "prompt": words,
        "n": count,
        "quality": data.draw(st.sampled_from([quality, *NOT_SAID])),
        "size": data.draw(st.sampled_from([size, *NOT_SAID])),
        "stream": True,
        "partial_images": partial,
        "images": [{"image_url": "data:,"}] * sent or None,
    }
    text = data.draw(st.integers(1, len(words.encode("utf-8", "surrogatepass"))))
    made = count * (each + partial * PARTIAL)
    usage = {
        "input_tokens": count * (text + sent * SENT),
        "input_tokens_details": {"text_tokens": count * text, "image_tokens": count * sent * SENT},
        "output_tokens": made,
        "total_tokens": count * (text + sent * SENT) + made,
    }
    answer = image_answer(encoded({"data": [{"b64_json": ""}] * count, "usage": usage}))
    request = parse_edit(encoded(fields)) if sent else parse_generation(encoded(fields))
    operation = "images_edits" if sent else "images_generations"
    assert is_held(HANDLERS[operation, "POST"], request, answer)


@given(st.data())
def test_pictures_by_the_piece(data: st.DataObject) -> None:
    model = data.draw(st.sampled_from(list(BY_PICTURE)))
    count = data.draw(st.integers(1, 10))
    fields = {
        "model": model,
        "prompt": "A cat",
        "n": count,
        "size": data.draw(st.sampled_from([*BY_PICTURE[model], None])),
        "quality": data.draw(st.sampled_from(["standard", "hd", None]))
        if model == "dall-e-3"
        else None,
    }
    came = data.draw(st.integers(1, count))
    answer = image_answer(encoded({"data": [{"url": "https://x"}] * came}))
    request = parse_generation(encoded(fields))
    assert is_held(HANDLERS["images_generations", "POST"], request, answer)


@given(
    st.sampled_from(VOICES),
    st.text(min_size=1, max_size=4_096),
    st.integers(4, 30),
    st.sampled_from([None, 0.25, 1, 4]),
)
def test_voices(model: str, text: str, characters_per_second: int, speed: float | None) -> None:
    fields = {"model": model, "input": text, "voice": "alloy", "speed": speed}
    request = parse_speech(encoded(fields))
    seconds = len(text) / characters_per_second / (speed or 1)
    made = max(1, round(seconds * TOKENS_PER_MINUTE / 60))
    voice = VoiceStreamMeter(Sound())
    voice.usage = {
        "input_tokens": len(text.encode("utf-8", "surrogatepass")),
        "output_tokens": made,
        "total_tokens": len(text.encode("utf-8", "surrogatepass")) + made,
    }
    voice.output_seen = True
    voice.feed(b'data: {"type":"speech.audio.done"}\n\n')
    assert is_held(HANDLERS["audio_speech", "POST"], request, voice)
