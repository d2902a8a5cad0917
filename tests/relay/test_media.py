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
from relay.media.opus import packet_samples
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


def counted(data: bytes, *, size: int = 4_096) -> int | None:
    """The longest sound that anybody could find in it."""
    meter = DurationMeter()
    for start in range(0, len(data), size):
        meter.feed(data[start : start + size])
    meter.close()
    return meter.most_milliseconds


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


COUNTED = {
    "constant.mp3": 1_584,
    "layer2.mpga": 1_512,
    "opus.ogg": 1_640,  # With what a player leaves out at both ends.
    "pcm.wav": 500,
    "recorded.webm": 1_521,
    "variable.mp3": 1_584,
    "whole.webm": 1_520,
}


@pytest.mark.parametrize("name", LENGTHS)
@pytest.mark.parametrize("size", [7, 1_000_000])
def test_only_what_is_in_a_file_is_counted_and_not_what_it_says(name: str, size: int) -> None:
    assert counted(sample(name), size=size) == COUNTED.get(name)


def element(kind: int, data: bytes) -> bytes:
    return bytes.fromhex(f"{kind:x}") + pack(">Q", 1 << 56 | len(data)) + data


OPUS = element(0x86, b"A_OPUS")
PACKET = b"\xf8" + bytes(20)  # 20 ms.


def recorded(
    packets: int, *, codec: bytes = OPUS, block: bytes = b"\x81\0\0\x80", behind: bytes = b""
) -> bytes:
    """A WebM without any times: of a browser that says nothing, or of somebody who lies."""
    blocks = element(0xA3, block + PACKET) * packets
    tracks = element(0x1654AE6B, element(0xAE, codec))
    return (
        element(0x1A45DFA3, b"")
        + element(0x18538067, tracks + element(0x1F43B675, blocks))
        + behind
    )


def test_the_packets_are_counted_whatever_times_are_written_down() -> None:
    assert measured(recorded(100)) is None
    assert counted(recorded(100)) == counted(recorded(100), size=1) == 2_000
    ogg = bytearray(sample("opus.ogg"))
    at = ogg.index(b"OggS")
    while at >= 0:
        ogg[at + 6 : at + 14] = bytes(8)
        at = ogg.find(b"OggS", at + 1)
    assert measured(bytes(ogg)) is None
    assert counted(bytes(ogg)) == COUNTED["opus.ogg"]


@pytest.mark.parametrize(
    "data",
    [
        recorded(100, block=b"\x81\0\0\x86"),  # Many packets in each block.
        recorded(100, block=b"\x40\x80\0\0\x80"),  # A longer number of the track.
        recorded(100, codec=element(0x86, b"A_VORBIS")),
        recorded(100, codec=OPUS + OPUS),
        recorded(100, codec=b""),
        # The beginning of each packet is written down once for all of them.
        recorded(100, codec=OPUS + element(0x6D80, b"\xf8")),
        recorded(100, behind=b"\xec" + pack(">Q", 1 << 56 | 10**9) + bytes(2_000)),
        recorded(100, behind=b"\xff\xff" + bytes(2_000)),
    ],
)
def test_packets_that_could_be_read_in_another_way_are_not_counted(data: bytes) -> None:
    assert counted(data) is None


def test_pages_that_could_be_read_in_another_way_are_not_counted() -> None:
    ogg, of_another = sample("opus.ogg"), sample("vorbis.ogg")
    assert counted(ogg + ogg) == 2 * COUNTED["opus.ogg"]
    assert counted(ogg + of_another) is None
    # A damaged page with others inside of it.
    at = ogg.rindex(b"OggS") + 200
    assert counted(ogg[:at] + b"OggS" + ogg[at + 4 :]) is None


@pytest.mark.parametrize(
    ("start", "samples"),
    [
        (b"", 0),
        (b"\x00", 480),
        (b"\x18", 2_880),
        (b"\x19", 5_760),
        (b"\x1a\xff", 5_760),
        (b"\x60", 480),
        (b"\x80", 120),
        (b"\xf8", 960),
        (b"\xfb\x05", 4_800),
        (b"\xfb\x83", 2_880),
        (b"\x1b\x3f", 5_760),
        (b"\x1b", 0),
    ],
)
def test_an_opus_packet_says_itself_how_long_it_is(start: bytes, samples: int) -> None:
    assert packet_samples(start) == samples


def test_what_may_hide_a_longer_sound_is_not_counted() -> None:
    mp3, aac = silence_make(2, form="mp3"), silence_make(2, form="aac")
    assert counted(mp3)
    assert counted(aac)
    assert counted(mp3 + b"TAG" + bytes(125))
    assert not counted(mp3 + bytes(2_000))
    assert not counted(aac + bytes(2_000) + aac)
    assert not counted(b"")


def test_a_wav_that_can_be_read_in_two_ways_is_not_counted() -> None:
    data = wav(2.5)
    assert counted(data)
    # Blocks of 65,535 bytes would make it short; a decoder goes by the samples.
    assert not counted(data[:32] + pack("<H", 65_535) + data[34:])
    # Its data is said to end early: some read on.
    assert not counted(data[:40] + pack("<I", 100) + data[44:])
    assert not counted(data + b"data" + pack("<I", 10**6) + bytes(10**6))
    # GSM, of which nothing is known but what it says.
    assert not counted(data[:20] + pack("<H", 0x31) + data[22:])


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
