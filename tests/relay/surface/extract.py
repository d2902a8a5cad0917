"""Reduces OpenAI's published specification (MIT licence) to what the tests here need of it.

`python -m tests.relay.surface.extract openapi.yaml` writes `official_paths.json`, every method and
path, and `official_bodies.json`, the schemas of what the offered endpoints take: without prose.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from relay.endpoints.table import ENDPOINTS, ID, BodyKind

SOURCE = "Reduced from https://github.com/openai/openai-openapi, by OpenAI, under the MIT license"
FOLDER = Path(__file__).parent
METHODS = ("get", "post", "put", "patch", "delete")
PROSE = ("description", "example", "examples", "externalDocs", "deprecated", "title")


def main(file: Path) -> None:
    document = yaml.load(file.read_bytes(), Loader=yaml.CSafeLoader)
    paths = {(path.partition("?")[0], method) for path, method in _operations(document)}
    names = [f"{method.upper()} {path}" for path, method in sorted(paths)]
    _write("official_paths.json", names, indent=1)
    _write("official_bodies.json", _bodies(document), indent=None)


def _operations(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [(path, m) for path, found in document["paths"].items() for m in METHODS if m in found]


def _bodies(document: dict[str, Any]) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for row in ENDPOINTS:
        if row.body is BodyKind.NONE or ID in row.path:
            continue
        path = "/" + "/".join(row.path)
        body = document["paths"][path][row.method.lower()]["requestBody"]
        paths[path] = {row.method.lower(): {"requestBody": _bare(body), "responses": {}}}
    schemas: dict[str, Any] = {}
    _collect(paths, document["components"]["schemas"], schemas)
    info = {name: document["info"][name] for name in ("title", "version", "license")}
    info["x-source"] = SOURCE
    return {
        "openapi": "3.1.0",
        "info": info,
        "paths": paths,
        "components": {"schemas": dict(sorted(schemas.items()))},
    }


def _bare(value: Any) -> Any:
    """Without prose and extensions; a property may be called like them."""
    if isinstance(value, list):
        return [_bare(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        name: {one: _bare(below) for one, below in inner.items()}
        if name == "properties"
        else _bare(inner)
        for name, inner in value.items()
        if name not in PROSE and not name.startswith("x-")
    }


def _collect(value: Any, known: dict[str, Any], found: dict[str, Any]) -> None:
    """All schemas that are referred to."""
    if isinstance(value, list):
        for one in value:
            _collect(one, known, found)
    elif isinstance(value, dict):
        name = str(value.get("$ref", "")).rpartition("/")[2]
        if name and name not in found:
            found[name] = _bare(known[name])
            _collect(found[name], known, found)
        for below in value.values():
            _collect(below, known, found)


def _write(name: str, document: Any, *, indent: int | None) -> None:
    separators = None if indent else (",", ":")
    text = json.dumps(document, indent=indent, separators=separators)
    (FOLDER / name).write_text(text + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
