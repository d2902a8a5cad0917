"""How long sounds are: of files that other programs made, of built ones, and of broken ones."""

import io
import tracemalloc
import wave
from pathlib import Path
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.media import DurationMeter, source
from relay.simulator.sounds import silence_make

SAMPLES = Path(__file__).parent / "samples"
# What the decoder of the program that made them says, with what its encoder added to the ends.
LENGTHS = {
    "adpcm.wav": 509,
    "constant.mp3": 1_584,
    "fragments.mp4": 1_564,
    "layer2.mpga": 1_512,
    "moov_first.m4a": 1_564,
    "moov_last.m4a": 1_564,
    "opus.ogg": 1_500,
    "pcm.wav": 500,
    "plain.flac": 1_500,
    "program.mpeg": 1_512,
    "recorded.webm": 1_521,
    "variable.mp3": 1_584,
    "vorbis.ogg": 1_500,
    "whole.webm": 1_508,
}


def measured(data: bytes, *, size: int = 4_096) -> int | None:
    meter = DurationMeter()
    for start in range(0, len(data), size):
        meter.feed(data[start : start + size])
    return meter.close()


def is_counted(data: bytes, *, size: int = 4_096) -> bool:
    """Whether nobody could find a longer sound in it."""
    meter = DurationMeter()
    for start in range(0, len(data), size):
        meter.feed(data[start : start + size])
    meter.close()
    return meter.is_counted


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def tagged(data: bytes, *, size: int) -> bytes:
    """The file with an ID3 tag of the size in front."""
    digits = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\4\0\0" + digits + b"\xff\xfb" * (size // 2) + data


def test_every_sample_is_known() -> None:
    assert {path.name for path in SAMPLES.iterdir()} == set(LENGTHS)


@pytest.mark.parametrize("size", [1, 7, 1_000, 1_000_000])
@pytest.mark.parametrize(("name", "length"), LENGTHS.items(), ids=LENGTHS)
def test_a_sample_is_measured(name: str, length: int, size: int) -> None:
    assert measured(sample(name), size=size) == length


@pytest.mark.parametrize("name", ["constant.mp3", "variable.mp3", "plain.flac", "layer2.mpga"])
@pytest.mark.parametrize("size", [0, 2, 100_000])
def test_a_tag_in_front_is_passed_over(name: str, size: int) -> None:
    data = tagged(sample(name), size=size)

    assert measured(data) == measured(tagged(data, size=4), size=1) == LENGTHS[name]


def wav(seconds: float, *, rate: int = 8_000) -> bytes:
    kept = io.BytesIO()
    with wave.open(kept, "wb") as sound:
        sound.setnchannels(2)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(bytes(4 * round(seconds * rate)))
    return kept.getvalue()


def test_a_part_of_a_millisecond_counts_as_one() -> None:
    assert measured(wav(0.250)) == 250
    assert measured(wav(0.250125)) == 251


def test_a_wav_of_unknown_size_is_measured_by_what_came() -> None:
    data = wav(2.5)
    for unknown in (0, 0xFFFFFFFF):
        streamed = data[:40] + pack("<I", unknown) + data[44:]
        assert measured(streamed, size=333) == 2_500


def test_a_wav_cannot_claim_more_than_came() -> None:
    data = wav(2.5)

    assert measured(data[:40] + pack("<I", 10**9) + data[44:]) == 2_500
    assert measured(data[: 44 + 32_000]) == 1_000


def test_the_rate_in_bytes_is_not_believed() -> None:
    data = wav(2.5)

    assert measured(data[:28] + pack("<I", 10**9) + data[32:]) == 2_500


def test_a_wav_may_have_other_chunks() -> None:
    data = wav(0.5)
    more = b"LIST" + pack("<I", 3) + b"abc\0"

    assert measured(data[:12] + more + data[12:36] + more + data[36:]) == 500


def test_the_frames_are_counted_and_not_what_a_header_says() -> None:
    data = sample("variable.mp3")
    place = data.index(b"Xing") if b"Xing" in data else data.index(b"Info")
    # The number of frames is behind the mark and the flags.
    lying = data[: place + 8] + pack(">I", 1) + data[place + 12 :]

    assert measured(lying) == LENGTHS["variable.mp3"]


def test_rubbish_between_frames_is_passed_over() -> None:
    data = sample("layer2.mpga")
    frame = data[: len(data) // 21]
    rubbish = b"\xff\xe0\xff\xfb\x90\x00TAG" + bytes(300)

    assert measured(data + rubbish + frame) == measured(data + frame)


def test_a_sound_with_much_rubbish_in_it_is_not_measured() -> None:
    """A decoder may find frames behind it that are not looked for here, as that takes long."""
    frame = silence_make(0.024, form="mp3")
    assert measured(frame * 9 + bytes(10_000) + frame) == 240
    assert measured(frame * 9 + bytes(20_000) + frame * 99) is None


COUNTED = {"constant.mp3", "layer2.mpga", "pcm.wav", "variable.mp3"}


@pytest.mark.parametrize("name", LENGTHS)
@pytest.mark.parametrize("size", [7, 1_000_000])
def test_only_what_is_in_a_file_is_counted_and_not_what_it_says(name: str, size: int) -> None:
    assert is_counted(sample(name), size=size) == (name in COUNTED)


def test_what_may_hide_a_longer_sound_is_not_counted() -> None:
    mp3, aac = silence_make(2, form="mp3"), silence_make(2, form="aac")
    assert is_counted(mp3)
    assert is_counted(aac)
    assert is_counted(mp3 + b"TAG" + bytes(125))
    assert not is_counted(mp3 + bytes(2_000))
    assert not is_counted(aac + bytes(2_000) + aac)
    assert not is_counted(b"")


def test_a_wav_that_can_be_read_in_two_ways_is_not_counted() -> None:
    data = wav(2.5)
    assert is_counted(data)
    # Blocks of 65,535 bytes would make it short; a decoder goes by the samples.
    assert not is_counted(data[:32] + pack("<H", 65_535) + data[34:])
    # Its data is said to end early: some read on.
    assert not is_counted(data[:40] + pack("<I", 100) + data[44:])
    assert not is_counted(data + b"data" + pack("<I", 10**6) + bytes(10**6))
    # GSM, of which nothing is known but what it says.
    assert not is_counted(data[:20] + pack("<H", 0x31) + data[22:])


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_streamed_aac_is_measured_by_its_frames(size: int) -> None:
    sound = silence_make(2, form="aac")
    assert measured(sound, size=size) == 2_006  # 47 frames of 1,024 samples, 24,000 a second.
    assert measured(sound[:-1], size=size) == 2_006
    assert measured(sound + b"rubbish of any kind" + sound, size=size) is None


def test_chained_files_add_up() -> None:
    data = sample("opus.ogg")

    assert measured(data + sample("vorbis.ogg") + data) == 4_500


def test_a_movie_is_as_long_as_its_sound() -> None:
    # The header of the whole movie says something else than the sound's own table.
    data = sample("moov_last.m4a")
    place = data.index(b"mvhd") + 4 + 16
    longer = data[:place] + pack(">I", 3_600_000) + data[place + 4 :]

    assert measured(longer) == LENGTHS["moov_last.m4a"]


def test_a_duration_that_is_too_short_is_not_believed() -> None:
    data = sample("whole.webm")
    place = data.index(b"\x44\x89\x88") + 3
    lying = data[:place] + pack(">d", 1.0) + data[place + 8 :]
    silly = data[:place] + pack(">d", float("nan")) + data[place + 8 :]

    assert measured(lying) == measured(silly) == LENGTHS["recorded.webm"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"RIFF",
        b"ID3\4\0\0\0\0\0\0",
        b"not a sound at all, but text",
        b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\1\0H",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"RIFF\0\0\0\0AVI LIST" + bytes(100),
        b"fLaC\x01\0\0\x22" + bytes(100),
        b"OggS" + bytes(100),
        b"\x1a\x45\xdf\xa3" + bytes(100),
        bytes(1_000),
    ],
)
def test_what_is_no_sound_has_no_length(data: bytes) -> None:
    assert measured(data) is None
    assert measured(data, size=1) is None


@given(
    st.sampled_from(sorted(LENGTHS)),
    st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=8)), max_size=5),
    st.integers(0, 10_000),
    st.integers(1, 5_000),
)
def test_a_broken_file_does_no_harm(
    name: str, patches: list[tuple[int, bytes]], cut: int, size: int
) -> None:
    data = bytearray(sample(name))
    for place, patch in patches:
        data[place : place + len(patch)] = patch
    del data[len(data) - min(cut, len(data)) :]
    length = measured(bytes(data), size=size)

    assert length is None or length >= 0
    # However it is cut, it is the same file.
    assert measured(bytes(data), size=1_000_000) == length


def test_a_large_file_is_not_kept() -> None:
    meter = DurationMeter()
    meter.feed(wav(0.1)[:40] + pack("<I", 0))
    block = bytes(100_000)
    tracemalloc.start()
    for _ in range(100):
        meter.feed(block)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most < 400_000
    # What was cut off is 40 bytes of the head, and the size.
    assert meter.close() == 10_000_000 * 1_000 // 32_000


def test_a_file_of_tiny_boxes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = (pack(">I", 8) + b"free") * 1_000
    sound = sample("moov_first.m4a")

    assert measured(boxes + sound) == LENGTHS["moov_first.m4a"]
    monkeypatch.setattr(source, "MAX_STEPS", 1_000)
    assert measured(boxes + sound) is None
