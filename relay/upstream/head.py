"""The headers of a response as they came; most of them nobody ever asks for (pure)."""


class Head:
    """Header lines that a parser has accepted: each a name, a colon and a value, ended by CRLF."""

    __slots__ = ("_lines", "_lowered")

    def __init__(self, lines: bytes = b"\r\n") -> None:
        """`lines` begins with the end of the line before them, and ends with that of the last."""
        self._lines = lines
        self._lowered = lines.lower()

    def __len__(self) -> int:
        return self._lines.count(b"\r\n") - 1

    def value(self, name: bytes) -> bytes | None:
        """The first value of a header; names are lower case."""
        value = self.raw_value(name)
        return value if value is None else value.strip()

    def raw_value(self, name: bytes) -> bytes | None:
        """The same, with the white space around it."""
        start = self._lowered.find(b"\r\n" + name + b":")
        if start < 0:
            return None
        start += len(name) + 3
        return self._lines[start : self._lines.index(b"\r\n", start)]

    def count(self, name: bytes) -> int:
        """How many headers have that name."""
        return self._lowered.count(b"\r\n" + name + b":")

    def pairs(self) -> list[tuple[bytes, bytes]]:
        """All of them in their order; names are lower case."""
        split = (line.partition(b":") for line in self._lines.split(b"\r\n")[1:-1])
        return [(name.lower(), value.strip()) for name, _, value in split]
