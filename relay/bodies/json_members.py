"""The members of a JSON object, each with the bytes of its value left as they are.

A body is read here and forwarded as it came. So that upstream can not read another value than we
did, equal names must both be seen, and what is replaced must be replaced in place.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw


class Name(str):
    """A member's name that equals only itself, so that a dict keeps both of two equal names."""

    __slots__ = ()
    __eq__ = object.__eq__
    __hash__ = object.__hash__


Members = dict[Name, Raw]

# str.__new__(Name, text) is all that the hook has to do, and as a C function it costs least.
_decoder: Final = msgspec.json.Decoder(dict[Name, Raw], dec_hook=str.__new__)
_encode: Final = msgspec.json.Encoder().encode
_BEFORE_VALUE: Final = re.compile(rb'[\s,]*+"(?:[^"\\]++|\\.)*+"\s*+:\s*+')


def read_members(text: bytes | Raw) -> Members:
    """The members in their order, equal names included.

    Raises msgspec.DecodeError or RecursionError if the text is not a JSON object. UTF-8 inside of
    the values is not checked.
    """
    return _decoder.decode(text)


def value_spans(text: bytes, members: Members) -> dict[str, tuple[int, int]]:
    """Where each member's value starts and ends in the text that the members were read from."""
    spans = {}
    end = text.index(b"{") + 1
    for name, value in members.items():
        found = _BEFORE_VALUE.match(text, end)
        assert found is not None, "the members were read from another text"
        start = found.end()
        end = start + len(memoryview(value))
        spans[str(name)] = (start, end)
    return spans


def splice_members(text: bytes, members: Members, changes: Mapping[str, Any]) -> bytes:
    """The text with the named members set, and every other byte as it was.

    A member that exists gets its new value in place; a mapping is merged into an object that is
    there already. A new member goes right behind the opening brace.
    """
    new = {name: _encode(value) for name, value in changes.items()}
    edits: list[tuple[int, int, bytes]] = []
    if not changes.keys().isdisjoint(map(str, members)):
        for name, span in value_spans(text, members).items():
            if new.pop(name, None) is not None:
                edits.append((*span, _replacement(text[slice(*span)], changes[name])))
    if new:
        inside = text.index(b"{") + 1
        added = b",".join([_encode(name) + b":" + value for name, value in new.items()])
        edits.append((inside, inside, added + b"," if members else added))
    return _edited(text, sorted(edits))


def _replacement(old: bytes, value: object) -> bytes:
    if isinstance(value, Mapping) and old.startswith(b"{"):
        return splice_members(old, read_members(old), value)
    return _encode(value)


def _edited(text: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    pieces: list[bytes] = []
    position = 0
    for start, end, new in edits:
        pieces += (text[position:start], new)
        position = end
    return b"".join((*pieces, text[position:]))
