"""The parsers of the relay against slower, simpler ones."""

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.bodies.chat_requests import InvalidRequest, parse_chat, upstream_body
from relay.bodies.json_members import read_members, splice_members, value_spans
from relay.bodies.sse import Event, SseSplitter
from relay.metering.meter import ChatStreamMeter
from relay.paths import match

# How fast a busy machine is, is no property.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Server-sent events.

LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
LINES = st.one_of(
    st.sampled_from([b"", b"data: {}", b"data:x", b"data", b": c", b"event: e", b"id: 1", b"\xff"]),
    st.binary(max_size=12).map(lambda b: b.replace(b"\r", b"").replace(b"\n", b"")),
)
STREAMS = st.tuples(
    st.sampled_from([b"", b"\xef\xbb\xbf", b"\xef\xbb"]),
    st.lists(st.tuples(LINES, LINE_ENDS), max_size=20),
    LINES,
).map(lambda s: s[0] + b"".join(line + end for line, end in s[1]) + s[2])


def cut(data: bytes, places: list[int]) -> Iterator[bytes]:
    start = 0
    for place in sorted({min(place, len(data)) for place in places}):
        yield data[start:place]
        start = place
    yield data[start:]


def split(chunks: Iterator[bytes], bound: int = 10_000) -> list[Event]:
    splitter = SseSplitter(bound)
    events = [event for chunk in chunks for event in splitter.feed(chunk)]
    rest = splitter.close()
    return [*events, rest] if rest else events


def reference_data(stream: bytes) -> list[bytes]:
    """The data of each event as the standard dispatches it, one line at a time."""
    text = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    dispatched: list[bytes] = []
    data: list[bytes] = []
    for line in text.split(b"\n")[:-1]:
        name, _, value = line.partition(b":")
        if not line and data:
            dispatched.append(b"\n".join(data))
            data = []
        elif name == b"data":
            data.append(value.removeprefix(b" "))
    return dispatched


@unhurried
@given(STREAMS, st.lists(st.integers(0, 300), max_size=8))
def test_events_do_not_depend_on_where_the_stream_is_cut(stream: bytes, places: list[int]) -> None:
    whole = split(iter([stream]))
    assert split(cut(stream, places)) == whole
    assert split(bytes([byte]) for byte in stream) == whole
    assert b"".join(event.raw for event in whole) == stream.removeprefix(b"\xef\xbb\xbf")


@unhurried
@given(STREAMS)
def test_events_are_those_of_the_standard(stream: bytes) -> None:
    splitter = SseSplitter()
    # An LF behind the end decides whether a last CR ends an event.
    events = splitter.feed(stream + b"x")
    assert [event.data for event in events if event.data is not None] == reference_data(stream)


@unhurried
@given(STREAMS, st.lists(st.integers(0, 300), max_size=8), st.integers(4, 40))
def test_pieces_add_up_to_the_stream(stream: bytes, places: list[int], bound: int) -> None:
    events = split(cut(stream, places), bound)
    assert b"".join(event.raw for event in events) == stream.removeprefix(b"\xef\xbb\xbf")
    assert all(len(event.raw) <= bound for event in events if not event.is_piece)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
DELTAS = st.one_of(
    st.fixed_dictionaries({"content": st.none() | st.text(max_size=5)}),
    st.fixed_dictionaries({}, optional={"tool_calls": JSON, "refusal": st.text(max_size=3)}),
    JSON,
)
CHUNKS = st.fixed_dictionaries(
    {"choices": st.lists(st.fixed_dictionaries({"index": st.integers(0, 2), "delta": DELTAS}))},
    optional={
        "usage": JSON,
        "error": st.sampled_from([None, False, {"message": "x"}]),
        "model": JSON,
    },
)
CHAT_EVENTS = st.one_of(
    CHUNKS.map(lambda chunk: b"data: " + json.dumps(chunk).encode() + b"\n\n"),
    CHUNKS.map(lambda chunk: b"id: 1\r\ndata:" + json.dumps(chunk).encode() + b"\r\n\r\n"),
    st.sampled_from([b": ping\n\n", b"data: [DONE]\n\n", b"data:\n\n", b"event: x\n\n"]),
    st.binary(max_size=9),
)


@unhurried
@given(
    st.lists(CHAT_EVENTS, max_size=6).map(b"".join),
    st.lists(st.integers(0, 900), max_size=6),
    st.booleans(),
)
def test_a_meter_does_not_depend_on_where_the_stream_is_cut(
    stream: bytes, places: list[int], include_usage: bool
) -> None:
    views = []
    for chunks in (iter([stream]), cut(stream, places), (bytes([byte]) for byte in stream)):
        meter = ChatStreamMeter(include_usage=include_usage)
        forwarded = b"".join([meter.feed(chunk) for chunk in chunks]) + meter.finish()
        error = None if meter.error is None else str(meter.error)
        views.append((forwarded, meter.usage, meter.output_text(), error, meter.is_complete))
    assert views[0] == views[1] == views[2]
    forwarded = views[0][0]
    assert b"[DONE]" not in forwarded
    assert b"\r" not in forwarded
    assert not forwarded or forwarded.endswith(b"\n\n")
    for event in forwarded.decode().split("\n\n")[:-1]:
        assert event.startswith(("data: ", ": keepalive"))


# Requests.

SPACE = st.text(alphabet=" \t\r\n", max_size=2)
NAMES = ["model", "messages", "stream", "n", "max_tokens", "user", "x", "models", ""]


@st.composite
def escaped_name(draw: st.DrawFn, names: list[str]) -> str:
    name = draw(st.sampled_from(names))
    escaped = draw(st.sets(st.integers(0, 20)))
    upper = draw(st.booleans())
    form = "\\u{:04X}" if upper else "\\u{:04x}"
    return "".join(form.format(ord(c)) if i in escaped else c for i, c in enumerate(name))


@st.composite
def object_texts(draw: st.DrawFn) -> bytes:
    """Objects with names that repeat, names that are escaped, and space wherever it may be."""
    members = draw(st.lists(st.tuples(escaped_name(NAMES), JSON, SPACE, SPACE), max_size=7))
    ascii_only = draw(st.booleans())
    texts = [
        f'{a}"{name}"{b}:{a}{json.dumps(value, ensure_ascii=ascii_only)}{b}'
        for name, value, a, b in members
    ]
    around = draw(SPACE)
    text = f"{around}{{{','.join(texts)}}}{around}"
    return text.encode("utf-8", "surrogatepass")


def is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def pairs(text: bytes) -> list[tuple[str, Any]]:
    """Every member of the outermost object, as the standard library reads them."""

    class Pairs(list[tuple[str, Any]]):
        pass

    read = json.loads(text, object_pairs_hook=Pairs)

    def plain(value: Any) -> Any:
        if isinstance(value, Pairs):
            return {name: plain(item) for name, item in value}
        return [plain(item) for item in value] if isinstance(value, list) else value

    return [(name, plain(value)) for name, value in read]


@unhurried
@given(object_texts().filter(is_text))
def test_members_and_their_places_are_those_of_a_reference(text: bytes) -> None:
    members = read_members(text)
    expected = pairs(text)
    assert [(str(name), json.loads(bytes(raw))) for name, raw in members.items()] == expected
    for name, (start, end) in value_spans(text, members).items():
        assert json.loads(text[start:end]) == [v for n, v in expected if n == name][-1]


METERED = {
    "model": "m",
    "messages": [{}],
    "stream": True,
    "n": 2,
    "max_tokens": 9,
    "user": "u",
}


def refusal(body: bytes) -> InvalidRequest | None:
    try:
        parse_chat(body)
    except InvalidRequest as error:
        return error
    return None


@unhurried
@given(st.lists(st.tuples(escaped_name(NAMES), JSON, SPACE), max_size=5))
def test_twice_named_fields_are_those_that_a_reference_sees_twice(
    members: list[tuple[str, Any, str]],
) -> None:
    # Names are decoded by the reference only, to give each field a value that it may have.
    decoded = [json.loads(f'"{name}"') for name, _, _ in members]
    texts = [
        f'{space}"{name}"{space}:{json.dumps(METERED.get(plain, value))}'
        for (name, value, space), plain in zip(members, decoded, strict=True)
    ]
    required = [f'"{name}":{json.dumps(METERED[name])}' for name in ("model", "messages")]
    text = f"{{{','.join([*required, *texts])}}}".encode()
    names = [name for name, _ in pairs(text)]
    twice = {name for name in METERED if names.count(name) > 1}
    error = refusal(text)
    assert (error.code if error else None) == ("duplicate_parameter" if twice else None)
    assert error is None or error.param in twice


@st.composite
def chat_bodies(draw: st.DrawFn) -> bytes:
    fields = draw(
        st.fixed_dictionaries(
            {"model": st.text(min_size=1, max_size=9), "messages": st.just([{"content": "hi"}])},
            optional={
                "stream": st.booleans(),
                "stream_options": st.none()
                | st.dictionaries(st.text(max_size=3), JSON, max_size=2)
                | st.fixed_dictionaries({"include_usage": st.booleans(), "x": JSON}),
                "max_tokens": st.none() | st.integers(1, 999),
                "max_completion_tokens": st.none() | st.integers(1, 999),
                "user": st.none() | st.text(max_size=3),
                "metadata": JSON,
                "temperature": st.floats(allow_nan=False, allow_infinity=False),
            },
        )
    )
    order = draw(st.permutations(list(fields)))
    return json.dumps(
        {name: fields[name] for name in order},
        ensure_ascii=draw(st.booleans()),
        indent=draw(st.none() | st.integers(0, 2)),
    ).encode("utf-8", "surrogatepass")


@unhurried
@given(
    chat_bodies().filter(is_text),
    st.text(min_size=1, max_size=9).filter(lambda model: is_text(model.encode("utf-8", "ignore"))),
    st.none() | st.integers(1, 999),
    st.sampled_from(["max_tokens", "max_completion_tokens"]),
)
def test_an_upstream_body_differs_only_where_it_must(
    text: bytes, model: str, cap: int | None, cap_field: str
) -> None:
    request = parse_chat(text)
    body = upstream_body(
        request, upstream_model=model, include_usage=True, output_cap=cap, cap_field=cap_field
    )
    expected = json.loads(text)
    expected["model"] = model
    if request.stream:
        options = expected.get("stream_options") or {}
        expected["stream_options"] = {**options, "include_usage": True}
    used = [f for f in ("max_tokens", "max_completion_tokens") if expected.get(f) is not None]
    if cap is not None:
        for field in used:
            expected[field] = min(expected[field], cap)
        if not used:
            expected[cap_field] = cap
    assert json.loads(body) == expected
    assert is_text(body)


@unhurried
@given(object_texts().filter(is_text), st.dictionaries(st.sampled_from(NAMES), JSON, max_size=3))
def test_a_splice_leaves_every_other_byte(text: bytes, changes: dict[str, Any]) -> None:
    members = read_members(text)
    spans = value_spans(text, members)
    spliced = splice_members(text, members, changes)
    kept = [(start, end) for name, (start, end) in spans.items() if name in changes]
    # Take out of the original what was replaced, and find the rest in the same order.
    position = spliced.index(b"{") + 1
    start = text.index(b"{") + 1
    assert spliced[:position] == text[:start]
    for begin, end in [*sorted(kept), (len(text), len(text))]:
        found = spliced.find(text[start:begin], position)
        assert found >= 0
        position, start = found + begin - start, end
    after = dict(pairs(spliced))
    for name, value in dict(pairs(text)).items():
        if name not in changes:
            assert after[name] == value
    for name, value in changes.items():
        if not isinstance(value, dict):
            assert after[name] == value


@unhurried
@given(st.binary(max_size=60))
def test_no_body_does_more_than_be_refused(body: bytes) -> None:
    error = refusal(body)
    assert error is not None
    assert error.status == 400


SEGMENTS = st.sampled_from(
    [
        "",
        "v1",
        "openai",
        "api",
        "chat",
        "completions",
        "models",
        "usage",
        "dashboard",
        "billing",
        "acme",
        "..",
    ]
)


@unhurried
@given(st.lists(SEGMENTS | st.text(max_size=4), max_size=9).map(lambda s: "/" + "/".join(s)))
def test_folding_a_path_twice_is_folding_it_once(path: str) -> None:
    matched = match(path)
    assert match("/" + path + "/") == matched
    if matched is not None and matched.operation != "unknown":
        assert match("/v1" + matched.rest) == matched._replace(organization=None, project=None)
