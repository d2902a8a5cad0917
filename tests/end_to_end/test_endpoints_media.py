"""The official Python SDK at the endpoints for images and audio, by the official price book."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from relay.simulator.pictures import picture_bytes
from relay.simulator.sounds import silence_make
from tests.end_to_end.live import LiveGateway
from tests.end_to_end.support import Customer, Upstream, new_tag

DALL_E, GPT_IMAGE = "dall-e-3", "gpt-image-1.5"
TTS, VOICE = "tts-1", "gpt-4o-mini-tts"
WHISPER, TRANSCRIBER = "whisper-1", "gpt-4o-transcribe"
SOUND = silence_make(7.25, form="wav")
PICTURE = picture_bytes(16, 16, "png")
MEGABYTE = 2**20
PROC, RESET_PEAK = Path("/proc"), "5"


@pytest.fixture(scope="module")
def client(gateway: LiveGateway, customer: Customer) -> Iterator[openai.OpenAI]:
    base_url = gateway.quickstart["base_url"]
    with openai.OpenAI(base_url=base_url, api_key=customer.api_key, max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def direct(gateway: LiveGateway) -> Iterator[openai.OpenAI]:
    """The same SDK, straight at the upstream."""
    base_url = f"{gateway.simulator_url}/v1"
    with openai.OpenAI(base_url=base_url, api_key="direct", max_retries=0) as client:
        yield client


def record_of(customer: Customer, answer: Any) -> dict[str, Any]:
    return customer.record_of(answer.headers["x-request-id"])


def half(*amounts: tuple[int, str]) -> int:
    """Half of the price of so many units of so much USD per million."""
    return -(-sum(count * int(float(usd) * 1_000) for count, usd in amounts) // 2)


def test_images_by_the_image(
    client: openai.OpenAI, direct: openai.OpenAI, customer: Customer
) -> None:
    asked: Any = {"model": DALL_E, "prompt": "A cat", "size": "1024x1792", "quality": "hd"}
    answer = client.images.with_raw_response.generate(**asked)
    assert answer.content == direct.images.with_raw_response.generate(**asked).content
    record = record_of(customer, answer)
    assert record["charge_nano_usd"] == 60_000_000


def test_images_by_their_tokens(
    client: openai.OpenAI, direct: openai.OpenAI, customer: Customer
) -> None:
    asked: Any = {"model": GPT_IMAGE, "prompt": "A cat", "n": 2, "quality": "low"}
    answer = client.images.with_raw_response.generate(**asked)
    assert answer.content == direct.images.with_raw_response.generate(**asked).content
    usage = answer.parse().usage
    assert usage is not None
    charge = half((usage.input_tokens, "5"), (usage.output_tokens, "32"))
    assert record_of(customer, answer)["charge_nano_usd"] == charge


@pytest.mark.parametrize("files", [[PICTURE], [PICTURE, PICTURE]])
def test_edits_of_a_form(client: openai.OpenAI, customer: Customer, files: list[bytes]) -> None:
    image = [("a.png", file) for file in files]
    answer = client.images.with_raw_response.edit(
        model=GPT_IMAGE, image=image, prompt="A hat", quality="medium", user="me"
    )
    usage = answer.parse().usage
    assert usage is not None
    details = usage.input_tokens_details
    assert details.image_tokens == 323 * len(files)
    charge = half(
        (details.text_tokens, "5"), (details.image_tokens, "8"), (usage.output_tokens, "32")
    )
    assert record_of(customer, answer)["charge_nano_usd"] == charge


def test_edits_in_json_of_a_picture_that_nobody_fetches(client: openai.OpenAI) -> None:
    url = "http://127.0.0.1:1/never-asked.png"
    body = {"model": GPT_IMAGE, "prompt": "A hat", "images": [{"image_url": url}]}
    answer = client.post("/images/edits", body=body, cast_to=httpx2.Response)
    assert answer.json()["usage"]["input_tokens_details"]["image_tokens"] == 323
    body["images"] = [{"file_id": "file-of-somebody-else"}]
    with pytest.raises(openai.NotFoundError):
        client.post("/images/edits", body=body, cast_to=httpx2.Response)


def test_variations(client: openai.OpenAI, customer: Customer) -> None:
    with pytest.deprecated_call():
        answer = client.images.with_raw_response.create_variation(
            image=("a.png", PICTURE), n=2, size="512x512"
        )
    record = record_of(customer, answer)
    assert (record["model"], record["charge_nano_usd"]) == ("dall-e-2", 2 * 9_000_000)


def test_streams_of_images(client: openai.OpenAI, direct: openai.OpenAI) -> None:
    asked: Any = {"model": GPT_IMAGE, "prompt": "A cat", "stream": True, "partial_images": 2}
    ours = list(client.images.generate(**asked))
    assert ours == list(direct.images.generate(**asked))
    edits = list(client.images.edit(**asked, image=("a.png", PICTURE)))
    for events in (ours, edits):
        last: Any = events[-1]
        kinds = [event.type.rpartition(".")[2] for event in events]
        assert kinds == ["partial_image", "partial_image", "completed"]
        assert last.usage.output_tokens > 0


@pytest.mark.parametrize("form", ["mp3", "opus", "aac", "flac", "wav", "pcm"])
def test_voices(
    client: openai.OpenAI, direct: openai.OpenAI, customer: Customer, form: Any
) -> None:
    text = "Grüße, 世界! " * 20
    asked: Any = {"model": TTS, "voice": "alloy", "input": text, "response_format": form}
    answer = client.audio.speech.with_raw_response.create(**asked)
    theirs = direct.audio.speech.with_raw_response.create(**asked)
    assert answer.content == theirs.content
    assert answer.headers["content-type"] == theirs.headers["content-type"]
    assert record_of(customer, answer)["charge_nano_usd"] == half((len(text), "15"))


def test_voices_by_their_length_and_by_tokens(client: openai.OpenAI, customer: Customer) -> None:
    asked: Any = {"model": VOICE, "voice": "alloy", "input": "x" * 600}
    answer = client.audio.speech.with_raw_response.create(**asked, response_format="wav")
    record = record_of(customer, answer)
    assert (record["charge_nano_usd"], record["usage_source"]) == (6 * 125_000, "estimated")
    answer = client.audio.speech.with_raw_response.create(**asked, stream_format="sse")
    last = json.loads(answer.text.rstrip().rpartition("data: ")[2])
    assert last["type"] == "speech.audio.done"
    record = record_of(customer, answer)
    usage = last["usage"]
    charge = half((usage["input_tokens"], "0.6"), (usage["output_tokens"], "12"))
    assert (record["charge_nano_usd"], record["usage_source"]) == (charge, "upstream")


@pytest.mark.parametrize("kind", ["json", "text", "srt", "vtt", "verbose_json"])
def test_transcripts_by_the_second(
    client: openai.OpenAI, direct: openai.OpenAI, customer: Customer, kind: Any
) -> None:
    asked: Any = {"model": WHISPER, "file": ("a.wav", SOUND), "response_format": kind}
    answer = client.audio.transcriptions.with_raw_response.create(**asked)
    theirs = direct.audio.transcriptions.with_raw_response.create(**asked)
    assert answer.content == theirs.content
    assert answer.headers["content-type"] == theirs.headers["content-type"]
    charge = record_of(customer, answer)["charge_nano_usd"]
    # Upstream reports whole seconds; where it reports none, the file says what it is.
    assert charge == (8_000 if "json" in kind else 7_250) * 50
    with pytest.deprecated_call():
        answer = client.audio.translations.with_raw_response.create(**asked)
    assert record_of(customer, answer)["charge_nano_usd"] == 7_250 * 50


def test_transcripts_by_tokens(client: openai.OpenAI, customer: Customer) -> None:
    asked: Any = {"model": TRANSCRIBER, "file": ("a.wav", SOUND)}
    answer = client.audio.transcriptions.with_raw_response.create(**asked)
    usage: Any = answer.parse().usage
    charge = half((usage.input_tokens, "2.5"), (usage.output_tokens, "10"))
    assert record_of(customer, answer)["charge_nano_usd"] == charge
    events = list(client.audio.transcriptions.create(**asked, stream=True))
    last: Any = events[-1]
    assert last.type == "transcript.text.done"
    told = "".join(event.delta for event in events if event.type == "transcript.text.delta")
    assert told == last.text


def test_a_stream_that_breaks_is_seen_to_fail(client: openai.OpenAI) -> None:
    stream = client.images.generate(
        model=GPT_IMAGE,
        prompt="A cat",
        stream=True,
        partial_images=1,
        extra_body={"simulate": {"fault": "cut"}},
    )
    with pytest.raises(openai.APIError, match="upstream"):
        list(stream)


def test_a_voice_that_breaks_is_seen_to_fail(client: openai.OpenAI) -> None:
    with pytest.raises((openai.APIError, httpx2.TransportError)):
        client.audio.speech.create(
            model=TTS,
            voice="alloy",
            input="x" * 4_000,
            extra_body={"simulate": {"fault": "bad_content_length"}},
        )


def test_what_is_too_large_or_of_another_kind(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        client.audio.transcriptions.create(model=WHISPER, file=("a.wav", bytes(25 * MEGABYTE + 1)))
    assert refused.value.status_code == 413
    for call in (
        lambda: client.images.generate(model="gpt-4.1", prompt="A cat"),
        lambda: client.audio.speech.create(model="gpt-4.1", voice="alloy", input="Hi"),
        lambda: client.audio.transcriptions.create(model="gpt-4.1", file=("a.wav", SOUND)),
    ):
        with pytest.raises(openai.NotFoundError, match="not offered at"):
            call()


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/images/edits"])
@pytest.mark.parametrize("size", [1_000, 2_000_000])
def test_a_form_goes_upstream_as_it_came(
    customer: Customer, upstream: Upstream, path: str, size: int
) -> None:
    tag = new_tag()
    model, name = (WHISPER, "file") if "audio" in path else (GPT_IMAGE, "image[]")
    parts = [
        ('name="simulate"', json.dumps({"tag": tag}).encode()),
        ('name="model"', model.encode()),
        ('name="prompt"', "Quietly, ünïcödé".encode()),
        (f'name="{name}"; filename="ü.mp3"', bytes(size)),
    ]
    form = b"".join(
        f"--a b:c  \r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + data + b"\r\n"
        for head, data in parts
    )
    form += b"--a b:c--"
    kind = 'multipart/form-data; boundary="a b:c"'
    reply = customer.post(form, path, content_type=kind)
    assert reply.status_code == 200, reply.text
    received = upstream.received(tag)
    assert received["body_sha256"] == hashlib.sha256(form).hexdigest()
    assert dict(received["headers"])["content-type"] == kind
    assert (
        reply.content
        == upstream.http.post(
            path, content=form, headers={"authorization": "Bearer direct", "content-type": kind}
        ).content
    )


def test_a_large_file_passes_through_without_being_kept(
    gateway: LiveGateway, customer: Customer, upstream: Upstream
) -> None:
    """The SDK sends the fields first, so nothing of the file has to wait for them."""
    base_url, tag = gateway.quickstart["base_url"], "a-large-file"
    size = 24 * MEGABYTE
    with openai.OpenAI(base_url=base_url, api_key=customer.api_key, max_retries=0) as client:
        for worker in gateway.workers:
            (PROC / str(worker.pid) / "clear_refs").write_text(RESET_PEAK)
        before = _most_memory(gateway)
        answer = client.audio.transcriptions.create(
            model=WHISPER,
            file=("a.mp3", bytes(size)),
            extra_body={"simulate": json.dumps({"tag": tag})},
        )
        assert answer.text
    assert _most_memory(gateway) - before < 12 * MEGABYTE
    assert upstream.received(tag)["body_bytes"] > size


def _most_memory(gateway: LiveGateway) -> int:
    """The most that all workers together have had in memory, each at its own time."""
    status = [(PROC / str(worker.pid) / "status").read_text() for worker in gateway.workers]
    lines = [line for one in status for line in one.splitlines() if line.startswith("VmHWM:")]
    return sum(int(line.split()[1]) * 1024 for line in lines)


def test_the_models_are_listed(client: openai.OpenAI) -> None:
    listed = {model.id for model in client.models.list()}
    assert {DALL_E, GPT_IMAGE, TTS, VOICE, WHISPER, TRANSCRIBER} <= listed
