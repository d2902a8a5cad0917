"""Reads a form as it comes in: its fields, where they stand, and how long its sound is. Pure.

What decides the price must be there once, or not at all, and upstream must not be able to read
another value than we did.
"""

import re
from typing import Final

from relay import errors
from relay.bodies.fields import NAMESPACED, InvalidRequest, refuse_destinations
from relay.bodies.multipart import (
    FieldCollector,
    FormSplitter,
    FormTooLarge,
    InvalidForm,
    Kind,
    PartHead,
    Piece,
    boundary_of,
)
from relay.errors import RelayError
from relay.media import DurationMeter

MAX_FIELD_BYTES: Final = 1024 * 1024
SOUND_FIELD: Final = "file"


class FormReader:
    """Feed it the body; it knows what has come of the form until now."""

    def __init__(
        self, content_type: bytes | None, *, single: frozenset[str], file_limit_bytes: int
    ) -> None:
        """`single` are the fields that may be there once. Raises RelayError."""
        try:
            self.boundary = boundary_of((content_type or b"").decode("latin-1"))
        except InvalidForm as error:
            raise _invalid(error) from None
        self.position = 0
        """How many bytes of the body have been read into pieces."""
        self.is_passing = False
        """What comes now has gone upstream before it can be changed."""
        self.file_bytes = 0
        self.is_read = False
        """All of it has come."""
        self.spans: dict[str, tuple[int, int]] = {}
        """Where the values of the single fields stand in the body, once they are complete."""
        self._single = single
        self._file_limit_bytes = file_limit_bytes
        self._splitter = FormSplitter(self.boundary)
        self._fields = FieldCollector(max_bytes=MAX_FIELD_BYTES)
        self._part: PartHead | None = None
        self._part_start = 0
        self._sound: DurationMeter | None = None
        self._sounds = 0
        self._measured: int | None = None
        self._counted: int | None = None
        self.most_milliseconds: int | None = None
        """What is set aside pays for no longer sound: then upstream does not get its end."""

    def feed(self, chunk: bytes) -> None:
        """Raises RelayError."""
        try:
            for piece in self._splitter.feed(chunk):
                self._take(piece)
        except InvalidForm as error:
            raise _invalid(error) from None
        except FormTooLarge as error:
            raise _too_large(error) from None

    def close(self) -> None:
        """The body has ended. Raises RelayError if the form has not."""
        try:
            self._splitter.close()
        except InvalidForm as error:
            raise _invalid(error) from None
        self.is_read = True
        most, length = self.most_milliseconds, self.milliseconds
        if most is not None and length is not None and length > most:
            raise InvalidRequest(
                f"The file says that it lasts {length} ms; of this size no more than {most} ms are"
                " expected. Send it in a less compressed format.",
                param=SOUND_FIELD,
                code="audio_too_long",
            )

    # --- What is known of it ---------------------------------------------------------------------

    @property
    def content_type(self) -> bytes:
        return b"multipart/form-data; boundary=" + _quoted(self.boundary)

    def text(self, name: str) -> str | None:
        """The value of a single field, as far as it has come. Raises RelayError."""
        try:
            return self._fields.text(name)
        except InvalidForm as error:
            raise _invalid(error, param=name) from None

    def has(self, name: str) -> bool:
        """Whether the single field is there, complete."""
        return name in self.spans

    @property
    def files(self) -> int:
        """How many files came."""
        return len(self._fields.files)

    @property
    def is_inside_field(self) -> bool:
        """What came last is half a field."""
        return self._part is not None and self._part.filename is None

    @property
    def milliseconds(self) -> int | None:
        """How long the sound is, once it has all come and if that can be known.

        Of several sounds upstream may take any: then nothing is known.
        """
        return self._measured if self._sounds == 1 else None

    @property
    def counted_milliseconds(self) -> int | None:
        """Nobody could make the sound longer; None: what is said of its length may be a lie."""
        return self._counted if self._sounds == 1 else None

    # --- Inside ----------------------------------------------------------------------------------

    def _take(self, piece: Piece) -> None:
        match piece.kind:
            case Kind.HEAD:
                assert piece.head is not None, "a head has been read"
                self._fields.take(piece)
                self._begin(piece.head, at=self.position + len(piece.raw))
            case Kind.DATA:
                self._fields.take(piece)
                self._data(piece.raw)
            case Kind.PART_END:
                self._end_part()
            case Kind.FRAME | Kind.END:
                pass
        self.position += len(piece.raw)

    def _begin(self, head: PartHead, *, at: int) -> None:
        name = head.name.removesuffix("[]")
        refuse_destinations((name,))
        if name in self._single:
            if head.filename is not None or head.name != name:
                raise InvalidRequest(
                    f"The field '{name}' must be a plain field of the form.",
                    param=name,
                    code="invalid_type",
                )
            self.text(name)  # It raises if there are two of them.
            if self.is_passing and name in NAMESPACED:
                raise InvalidRequest(
                    f"The field '{name}' must stand before the file, which is large.",
                    param=name,
                    code="invalid_form",
                )
        self._part, self._part_start = head, at
        if name == SOUND_FIELD:
            self._sounds += 1
            self._sound = DurationMeter()

    def _data(self, data: bytes) -> None:
        assert self._part is not None, "data belongs to a part"
        if self._part.filename is not None:
            self.file_bytes += len(data)
            if self.file_bytes > self._file_limit_bytes:
                raise errors.request_too_large(self._file_limit_bytes)
        if self._sound is not None:
            self._sound.feed(data)

    def _end_part(self) -> None:
        part, self._part = self._part, None
        assert part is not None, "a part ends after it began"
        if part.name in self._single:
            self.spans[part.name] = (self._part_start, self.position)
        if self._sound is not None:
            self._measured = self._sound.close()
            self._counted, self._sound = self._sound.most_milliseconds, None


def _invalid(error: InvalidForm, *, param: str | None = None) -> RelayError:
    code = "duplicate_parameter" if param is not None else "invalid_form"
    return InvalidRequest(f"The form could not be read: {error}", param=param, code=code)


def _too_large(error: FormTooLarge) -> RelayError:
    return RelayError(413, f"The form could not be read: {error}", code="request_too_large")


def _quoted(boundary: bytes) -> bytes:
    return boundary if _TOKEN.fullmatch(boundary) else b'"' + boundary + b'"'


_TOKEN: Final = re.compile(rb"[0-9A-Za-z'+_.-]+")
