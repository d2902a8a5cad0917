"""A `multipart/form-data` body, all of which is there."""

import re
from dataclasses import dataclass, field
from typing import Any

import msgspec

from relay.simulator.errors import bad_request
from relay.simulator.knobs import Knobs

_BOUNDARY = re.compile(r'boundary=(?:"([^"]{1,200})"|([^\s;,]{1,200}))', re.IGNORECASE)
_PARAMETER = re.compile(rb';\s*(name|filename)="((?:[^"\\]|\\.)*)"', re.IGNORECASE)
_KNOBS_DECODER = msgspec.json.Decoder(Knobs)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    filename: str
    data: bytes


@dataclass(slots=True)
class Form:
    # Names are without the brackets that clients put behind those of lists.
    fields: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, list[File]] = field(default_factory=dict)

    def plain(self, *, lists: frozenset[str] = frozenset()) -> dict[str, Any]:
        """The fields as one value each, but for those that are lists. Raises Refusal."""
        values: dict[str, Any] = {}
        for name, texts in self.fields.items():
            if name == "simulate":
                values[name] = _knobs(texts[-1])
            elif name in lists:
                values[name] = texts
            elif len(texts) > 1:
                raise bad_request(f"Duplicate form field: '{name}'.", param=name)
            else:
                values[name] = texts[0]
        return values


def form_read(body: bytes, *, content_type: str) -> Form:
    """Raises Refusal."""
    kind, _, _ = content_type.partition(";")
    found = _BOUNDARY.search(content_type)
    if kind.strip().lower() != "multipart/form-data" or found is None:
        raise bad_request(f"Invalid Content-Type header: '{kind}'. A form was expected.")
    delimiter = b"\r\n--" + (found[1] or found[2]).encode("latin-1")
    # The first delimiter has no line end in front of it.
    _, *parts = (b"\r\n" + body).split(delimiter)
    if not parts or not parts.pop().startswith(b"--"):
        raise bad_request("The form has no end.")
    form = Form()
    for part in parts:
        _part_add(form, part.lstrip(b" \t"))
    return form


def _part_add(form: Form, part: bytes) -> None:
    head, gap, data = part.partition(b"\r\n\r\n")
    parameters = {
        name.lower(): value.replace(b"\\", b"").decode(errors="replace")
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-disposition:")
        for name, value in _PARAMETER.findall(line)
    }
    if not gap or b"name" not in parameters:
        raise bad_request("A part of the form has no name.")
    name = parameters[b"name"].removesuffix("[]")
    if b"filename" in parameters:
        file = File(filename=parameters[b"filename"], data=data)
        form.files.setdefault(name, []).append(file)
        return
    try:
        form.fields.setdefault(name, []).append(data.decode())
    except UnicodeDecodeError as error:
        raise bad_request(f"The form field '{name}' is not text.", param=name) from error


def _knobs(text: str) -> Knobs:
    try:
        return _KNOBS_DECODER.decode(text)
    except msgspec.DecodeError as error:
        raise bad_request(str(error), param="simulate", code="invalid_type") from error
