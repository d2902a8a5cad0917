"""Reads a `multipart/form-data` body as it passes, however its bytes are cut.

Every byte that is fed comes out again in exactly one piece, in order: joined, the pieces are the
body. So a body can be passed through unchanged while it is read, and a field can be replaced in it.

What two readers could understand differently is refused: the upstream must not see another
`model` than the one that was priced. Memory is bounded: headers by a limit, and data is given out
as it comes, but for the few bytes that may begin a delimiter.
"""

import hashlib
import re
from enum import Enum, auto
from typing import Final

import msgspec

MAX_HEAD_BYTES: Final = 8 * 1024
MAX_PARTS: Final = 256
# Between a delimiter and its line end only blanks may stand.
_MAX_PADDING_BYTES: Final = 256
_MAX_BOUNDARY_CHARACTERS: Final = 70
_BOUNDARY: Final = re.compile(
    r""";\s*boundary\s*=\s*(?:"([^"\\]*)"|([^\s;"]*))\s*(?=;|$)""", re.IGNORECASE
)
_BOUNDARY_NAME: Final = re.compile(r";\s*boundary(?:\*\d*\*?)?\s*=", re.IGNORECASE)
_BOUNDARY_CHARACTERS: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]*[0-9A-Za-z'()+_,./:=?-]")
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_DISPOSITION: Final = re.compile(
    rb"""form-data((?:[ \t]*;[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+=(?:"(?:[^"\\]|\\.)*"|[^\s;"]+))*)"""
    rb"[ \t]*",
    re.IGNORECASE,
)
_PARAMETER: Final = re.compile(
    rb""";[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))"""
)
# A field in one of the others would be decoded by some readers, and not by others.
_PLAIN_ENCODINGS: Final = (b"binary", b"8bit", b"7bit")


class InvalidForm(Exception):
    """The body is no form that every reader would read alike."""


class FormTooLarge(Exception):
    """A part's headers, a field, or the number of parts is above its limit."""


class Kind(Enum):
    FRAME = auto()
    """A delimiter, or the line end behind the last one."""
    HEAD = auto()
    """The headers of a part, which the piece carries."""
    DATA = auto()
    """Some of the data of the part whose head came last."""
    PART_END = auto()
    """That data is complete; the piece has no bytes."""
    END = auto()
    """The form is complete; the piece has no bytes."""


class PartHead(msgspec.Struct, frozen=True, gc=False):
    name: str
    filename: str | None
    """None: the part is a field and no file."""
    content_type: str | None


class Piece(msgspec.Struct, frozen=True, gc=False):
    kind: Kind
    raw: bytes = b""
    head: PartHead | None = None


def boundary_of(content_type: str) -> bytes:
    """The boundary that a `Content-Type` header names; raises InvalidForm."""
    kind, _, _ = content_type.partition(";")
    if kind.strip().lower() != "multipart/form-data":
        raise InvalidForm("The content type is not multipart/form-data.")
    found: list[tuple[str, str]] = _BOUNDARY.findall(content_type)
    if len(found) != 1 or len(_BOUNDARY_NAME.findall(content_type)) != 1:
        raise InvalidForm("The content type does not name one boundary.")
    boundary = found[0][0] or found[0][1]
    is_short = 1 <= len(boundary) <= _MAX_BOUNDARY_CHARACTERS
    if not is_short or _BOUNDARY_CHARACTERS.fullmatch(boundary) is None:
        raise InvalidForm("The boundary is not valid.")
    return boundary.encode()


class _State(Enum):
    START = auto()
    BEHIND_DELIMITER = auto()
    HEAD = auto()
    DATA = auto()
    BEHIND_LAST = auto()


class FormSplitter:
    """Feed it chunks; it gives back the pieces that each chunk completes."""

    __slots__ = ("_buffer", "_dashes", "_held_back", "_parts", "_state")

    def __init__(self, boundary: bytes) -> None:
        self._dashes = b"--" + boundary
        # The longest proper beginning of a delimiter, which has a line end in front of the dashes.
        self._held_back = len(self._dashes) + 1
        self._buffer = bytearray()
        self._state = _State.START
        self._parts = 0

    def feed(self, chunk: bytes) -> list[Piece]:
        """Raises InvalidForm and FormTooLarge; nothing may be fed after that."""
        self._buffer += chunk
        pieces: list[Piece] = []
        while self._step(pieces):
            pass
        return pieces

    def close(self) -> None:
        """The body has ended: raises InvalidForm if the form has not."""
        if self._state is not _State.BEHIND_LAST:
            raise InvalidForm("The form ends before its last delimiter.")

    def _step(self, pieces: list[Piece]) -> bool:
        """Take the next thing out of the buffer if it is there as a whole."""
        match self._state:
            case _State.START:
                return self._start(pieces)
            case _State.BEHIND_DELIMITER:
                return self._behind_delimiter(pieces)
            case _State.HEAD:
                return self._head(pieces)
            case _State.DATA:
                return self._data(pieces)
            case _State.BEHIND_LAST:
                return self._behind_last(pieces)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _start(self, pieces: list[Piece]) -> bool:
        """Nothing may stand before the first delimiter but its line end."""
        for opening in (self._dashes, b"\r\n" + self._dashes):
            if self._buffer.startswith(opening):
                pieces.append(Piece(Kind.FRAME, self._take(len(opening))))
                self._state = _State.BEHIND_DELIMITER
                return True
            if opening.startswith(self._buffer):
                return False
        raise InvalidForm("The form does not begin with its boundary.")

    def _behind_delimiter(self, pieces: list[Piece]) -> bool:
        buffer = self._buffer
        if buffer[:2] == b"--":
            pieces += (Piece(Kind.FRAME, self._take(2)), Piece(Kind.END))
            self._state = _State.BEHIND_LAST
            return True
        end = buffer.find(b"\n", 0, _MAX_PADDING_BYTES)
        if end < 0:
            if buffer != b"-" and (
                buffer.removesuffix(b"\r").strip(b" \t") or len(buffer) >= _MAX_PADDING_BYTES
            ):
                raise InvalidForm("A delimiter does not end its line.")
            return False
        if buffer[:end].strip(b" \t") != b"\r" or buffer[end - 1 : end] != b"\r":
            raise InvalidForm("A delimiter does not end its line.")
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise FormTooLarge(f"The form has more than {MAX_PARTS} parts.")
        pieces.append(Piece(Kind.FRAME, self._take(end + 1)))
        self._state = _State.HEAD
        return True

    def _head(self, pieces: list[Piece]) -> bool:
        end = self._buffer.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
        if end < 0:
            if len(self._buffer) >= MAX_HEAD_BYTES:
                raise FormTooLarge(f"The headers of a part exceed {MAX_HEAD_BYTES} bytes.")
            return False
        raw = self._take(end + 4)
        if self._dashes in raw:
            raise InvalidForm("The boundary stands in the headers of a part.")
        pieces.append(Piece(Kind.HEAD, raw, _head_read(raw[:-4])))
        self._state = _State.DATA
        return True

    def _data(self, pieces: list[Piece]) -> bool:
        place = self._buffer.find(self._dashes)
        if place < 0:
            if (size := len(self._buffer) - self._held_back) > 0:
                pieces.append(Piece(Kind.DATA, self._take(size)))
            return False
        # Some readers take the dashes for a delimiter wherever a line begins, or anywhere.
        if place < 2 or self._buffer[place - 2 : place] != b"\r\n":  # noqa: PLR2004 - CR and LF.
            raise InvalidForm("The boundary stands in the data of a part.")
        if place > 2:  # noqa: PLR2004 - the same.
            pieces.append(Piece(Kind.DATA, self._take(place - 2)))
        pieces.append(Piece(Kind.PART_END))
        pieces.append(Piece(Kind.FRAME, self._take(2 + len(self._dashes))))
        self._state = _State.BEHIND_DELIMITER
        return True

    def _behind_last(self, pieces: list[Piece]) -> bool:
        if self._buffer.strip(b"\r\n \t"):
            raise InvalidForm("Something stands behind the end of the form.")
        if self._buffer:
            pieces.append(Piece(Kind.FRAME, self._take(len(self._buffer))))
        return False


def _head_read(raw: bytes) -> PartHead:
    headers: dict[bytes, bytes] = {}
    for line in raw.split(b"\r\n"):
        found = _HEADER.fullmatch(line)
        if found is None or found[1].lower() in headers:
            raise InvalidForm("A part has a header that is not valid, or has it twice.")
        headers[found[1].lower()] = found[2].strip(b" \t")
    encoding = headers.get(b"content-transfer-encoding", b"binary")
    if encoding.lower() not in _PLAIN_ENCODINGS:
        raise InvalidForm("A part is encoded for transfer.")
    parameters = _parameters(headers.get(b"content-disposition", b""))
    name = parameters.get(b"name")
    if name is None or b"\\" in name or b"name*" in parameters:
        raise InvalidForm("A part has no plain name.")
    try:
        plain_name = name.decode()
    except UnicodeDecodeError as error:
        raise InvalidForm("The name of a part is not UTF-8.") from error
    if not plain_name or plain_name != plain_name.strip():
        # Some readers strip it, and then it could be the name of another field.
        raise InvalidForm("The name of a part is empty, or has blanks around it.")
    content_type = headers.get(b"content-type")
    filename = parameters.get(b"filename", parameters.get(b"filename*"))
    return PartHead(
        name=plain_name,
        filename=None if filename is None else filename.decode(errors="replace"),
        content_type=None if content_type is None else content_type.decode("latin-1"),
    )


def _parameters(disposition: bytes) -> dict[bytes, bytes]:
    whole = _DISPOSITION.fullmatch(disposition)
    if whole is None:
        raise InvalidForm("A part has no content disposition of a form.")
    parameters: dict[bytes, bytes] = {}
    for name, quoted, plain in _PARAMETER.findall(whole[1]):
        if name.lower() in parameters:
            raise InvalidForm("A part's content disposition names something twice.")
        parameters[name.lower()] = quoted or plain
    return parameters


class FieldCollector:
    """Remembers the fields of a form, and which files it has, within a bound."""

    def __init__(self, *, max_bytes: int) -> None:
        """The bound is for the names and values of all fields together."""
        self._left = max_bytes
        self._fields: dict[str, list[bytearray]] = {}
        self._into: bytearray | None = None
        self.files: list[PartHead] = []

    def take(self, piece: Piece) -> None:
        """Raises FormTooLarge."""
        if piece.kind is Kind.HEAD:
            assert piece.head is not None, "a head has been read"
            self._into = None
            if piece.head.filename is not None:
                self.files.append(piece.head)
                return
            self._into = bytearray()
            self._count(len(piece.head.name))
            self._fields.setdefault(piece.head.name, []).append(self._into)
        elif piece.kind is Kind.DATA and self._into is not None:
            self._count(len(piece.raw))
            self._into += piece.raw

    def _count(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise FormTooLarge("The fields of the form are too large.")

    def text(self, name: str) -> str | None:
        """The value of a field that may be there once; raises InvalidForm."""
        values = self.texts(name)
        # What is a file to us may be a field to another reader.
        if len(values) + sum(file.name == name for file in self.files) > 1:
            raise InvalidForm(f"The form has the field {name} more than once.")
        return values[0] if values else None

    def texts(self, name: str) -> list[str]:
        """Every value of the field, also under its name with brackets; raises InvalidForm."""
        values = [*self._fields.get(name, ()), *self._fields.get(f"{name}[]", ())]
        try:
            return [value.decode() for value in values]
        except UnicodeDecodeError as error:
            raise InvalidForm(f"The field {name} of the form is not UTF-8.") from error

    @property
    def names(self) -> frozenset[str]:
        """The fields that the form has, as they are written there."""
        return frozenset(self._fields)


class FormDigest:
    """Feed it a form: what comes out depends on its parts, in their order, and on nothing else."""

    def __init__(self, boundary: bytes) -> None:
        self._splitter = FormSplitter(boundary)
        self._whole = hashlib.sha256()
        self._part = hashlib.sha256()

    def feed(self, chunk: bytes) -> None:
        """Raises InvalidForm, FormTooLarge."""
        for piece in self._splitter.feed(chunk):
            match piece.kind:
                case Kind.HEAD:
                    self._part = hashlib.sha256()
                    self._whole.update(hashlib.sha256(piece.raw).digest())
                case Kind.DATA:
                    self._part.update(piece.raw)
                case Kind.PART_END:
                    self._whole.update(self._part.digest())
                case Kind.FRAME | Kind.END:
                    pass

    def value(self) -> bytes:
        return self._whole.digest()
