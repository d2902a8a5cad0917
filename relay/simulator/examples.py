"""A plausible value for a JSON schema: what a model would fill in for a tool or a JSON answer.

`pattern`, `not`, `if` and the like are not looked at.
"""

import math
import re
from typing import Any

_PLAIN_DEPTH = 2  # Deeper than this only what a schema requires is made, so that trees end.
_LAST_DEPTH = 12
_MAX_NODES = 2_000
_EXAMPLE = re.compile(r"(?:\be\.g\.|\bfor example|\bsuch as)[,:]?\s*([^.;()\n]+)", re.IGNORECASE)
_FORMATS = {
    "date": "2025-01-31",
    "date-time": "2025-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "email": "user@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def example_make(schema: Any) -> Any:
    return _Maker(schema).value(schema, depth=0)


class _Maker:
    def __init__(self, root: Any) -> None:
        self._root = root
        self._nodes_left = _MAX_NODES

    def value(self, schema: Any, *, depth: int) -> Any:
        self._nodes_left -= 1
        if depth >= _LAST_DEPTH or self._nodes_left < -_MAX_NODES:
            return None
        schema = self._resolved(schema)
        for fixed in ("const", "default"):
            if fixed in schema:
                return schema[fixed]
        for listed in ("enum", "examples"):
            if isinstance(schema.get(listed), list) and schema[listed]:
                return schema[listed][0]
        for options in ("anyOf", "oneOf"):
            if isinstance(schema.get(options), list) and schema[options]:
                return self.value(self._option(schema[options], depth=depth), depth=depth + 1)
        kind = _kind(schema)
        if kind == "object":
            return self._object(schema, depth=depth)
        if kind == "array":
            return self._array(schema, depth=depth)
        return _scalar(kind, schema)

    def _plain(self, depth: int) -> bool:
        return depth < _PLAIN_DEPTH and self._nodes_left > 0

    def _resolved(self, schema: Any) -> dict[str, Any]:
        """The schema without `$ref` and `allOf`; `true`, and what is no schema, is `{}`."""
        for _ in range(_LAST_DEPTH):
            if not isinstance(schema, dict):
                return {}
            if isinstance(reference := schema.get("$ref"), str):
                schema = self._referenced(reference)
            elif isinstance(parts := schema.get("allOf"), list):
                merged = {key: value for key, value in schema.items() if key != "allOf"}
                for part in parts:
                    merged = _merged(merged, part)
                schema = merged
            else:
                return schema
        return {}

    def _referenced(self, reference: str) -> Any:
        node = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            node = node.get(name) if isinstance(node, dict) else None
        return node

    def _option(self, options: list[Any], *, depth: int) -> Any:
        """The first option that is not null; a null, if there is one, where trees must end."""
        nulls = [option for option in options if self._resolved(option).get("type") == "null"]
        if nulls and not self._plain(depth):
            return nulls[0]
        return next((option for option in options if option not in nulls), options[0])

    def _object(self, schema: dict[str, Any], *, depth: int) -> dict[str, Any]:
        properties = schema.get("properties")
        if not isinstance(properties, dict):
            return {}
        required = schema.get("required")
        names = required if isinstance(required, list) else []
        return {
            name: self.value(part, depth=depth + 1)
            for name, part in properties.items()
            if name in names or self._plain(depth)
        }

    def _array(self, schema: dict[str, Any], *, depth: int) -> list[Any]:
        least = _number(schema.get("minItems")) or 0
        length = int(max(least, 1 if self._plain(depth) else 0))
        length = min(length, max(1, self._nodes_left))
        return [self.value(schema.get("items"), depth=depth + 1) for _ in range(length)]


def _merged(first: dict[str, Any], second: Any) -> dict[str, Any]:
    if not isinstance(second, dict):
        return first
    merged = first | second
    for key in ("properties", "required"):
        ours, theirs = first.get(key), second.get(key)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            merged[key] = ours | theirs
        elif isinstance(ours, list) and isinstance(theirs, list):
            merged[key] = ours + theirs
    return merged


def _kind(schema: dict[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), "null")
    if isinstance(kind, str):
        return kind
    return "object" if "properties" in schema else "string"


def _scalar(kind: str, schema: dict[str, Any]) -> Any:
    if kind == "string":
        return _string(schema)
    if kind == "boolean":
        return True
    if kind in ("integer", "number"):
        return _numeric(schema, whole=kind == "integer")
    return None


def _string(schema: dict[str, Any]) -> str:
    described = _EXAMPLE.search(str(schema.get("description", "")))
    text = described.group(1).strip(" \"'`") if described else "example"
    text = _FORMATS.get(str(schema.get("format")), text)
    least, most = _number(schema.get("minLength")), _number(schema.get("maxLength"))
    if least is not None:
        text = text.ljust(int(min(least, 10_000)), "x")
    return text if most is None else text[: int(most)]


def _numeric(schema: dict[str, Any], *, whole: bool) -> float:
    step = 1 if whole else 0.5
    low, high = _number(schema.get("minimum")), _number(schema.get("maximum"))
    above, below = _number(schema.get("exclusiveMinimum")), _number(schema.get("exclusiveMaximum"))
    if low is None and above is not None:
        low = above + step if below is None else (above + below) / 2
    if high is None and below is not None:
        high = below - step if low is None else low
    value: float = 1
    if low is not None and value < low:
        value = low
    if high is not None and value > high:
        value = high
    multiple = _number(schema.get("multipleOf"))
    if multiple:
        value = math.ceil(value / multiple) * multiple
    return math.ceil(value) if whole else value


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
