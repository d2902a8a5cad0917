from typing import Any

import jsonschema  # type: ignore[import-untyped]  # Its stubs are not pinned.
import pytest

from relay.simulator.examples import example_make

NODE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
        "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
    },
    "required": ["name", "next", "children"],
    "additionalProperties": False,
}
SCHEMAS: list[dict[str, Any]] = [
    {"type": "string", "minLength": 12, "maxLength": 20},
    {"type": "string", "maxLength": 3},
    {"type": "string", "enum": ["celsius", "fahrenheit"]},
    {"type": "integer", "minimum": 7},
    {"type": "integer", "maximum": -3},
    {"type": "integer", "exclusiveMinimum": 4, "multipleOf": 5},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.5},
    {"type": "number", "exclusiveMaximum": 1},
    {"type": "boolean"},
    {"type": "null"},
    {"type": ["null", "integer"]},
    {"const": {"a": 1}},
    {"type": "array", "items": {"type": "integer"}, "minItems": 3},
    {"type": "array", "items": {"type": "string", "format": "date"}},
    {"type": "object"},
    {"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 2}]},
    {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
            {"properties": {"b": {"type": "string"}}, "required": ["b"]},
        ]
    },
    {"$ref": "#/$defs/node", "$defs": {"node": NODE}},
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_an_example_is_valid(schema: dict[str, Any]) -> None:
    jsonschema.validate(example_make(schema), schema)


def test_an_example_is_taken_from_the_description() -> None:
    schema = {"type": "string", "description": "The city and state, e.g. San Francisco, CA"}

    assert example_make(schema) == "San Francisco, CA"


def test_optional_properties_are_filled_in_too() -> None:
    schema = {"properties": {"a": {"type": "boolean"}, "b": {"type": "integer"}}, "required": ["a"]}

    assert example_make(schema) == {"a": True, "b": 1}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "#/$defs/nowhere"},
        {"allOf": [{"$ref": "#"}]},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"type": "array", "items": {"$ref": "#"}, "minItems": 9},
        {"anyOf": [{"$ref": "#"}]},
        {"type": "array", "items": True, "minItems": 10**12},
        {"properties": 7, "type": "object"},
        {"type": "string", "minLength": 10**12},
    ],
    ids=str,
)
def test_a_schema_that_nothing_can_meet_still_ends(schema: dict[str, Any]) -> None:
    made = example_make(schema)

    assert len(str(made)) < 100_000


def test_a_wide_and_deep_tree_stays_small() -> None:
    properties = {f"p{number}": {"$ref": "#"} for number in range(30)}
    made = example_make({"type": "object", "properties": properties})

    assert len(made) == 30
    assert len(str(made)) < 100_000
