"""Which ids a request names, found wherever they are; and which values upstream sees apart."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.bodies.json_members import read_members
from relay.tenancy.namespaces import MAX_LENGTH, Namespace, Namespaces
from relay.tenancy.references import ID_FIELDS, Reference, id_references

FIELDS = frozenset({"previous_response_id", "conversation", "prompt", "input", "tools"})


def found(**fields: Any) -> list[Reference]:
    return id_references(read_members(json.dumps(fields).encode()), FIELDS)


def test_each_id_is_named_once_and_with_its_field() -> None:
    content = [{"type": "input_file", "file_id": "file-1"}] * 2
    assert found(
        previous_response_id="resp_1",
        conversation={"id": "conv_1"},
        prompt={"id": "pmpt_1", "version": "2"},
        input=[{"role": "user", "content": content}, {"type": "item_reference", "id": "msg_1"}],
        tools=[{"type": "file_search", "vector_store_ids": ["vs_1", "vs_2"]}],
        metadata={"file_id": "is none of upstream's"},
    ) == [
        Reference("previous_response_id", "resp_1"),
        Reference("conversation.id", "conv_1"),
        Reference("prompt.id", "pmpt_1"),
        Reference("input.id", "msg_1"),
        Reference("input.content.file_id", "file-1"),
        Reference("tools.vector_store_ids", "vs_1"),
        Reference("tools.vector_store_ids", "vs_2"),
    ]


def test_what_is_not_given_names_nothing() -> None:
    nothing = {"previous_response_id": None, "conversation": None, "prompt": None, "tools": None}
    assert found(**nothing, input="file_id: file-1") == []
    assert found(input=[{"role": "user", "content": "x", "id": "msg_1"}]) == []
    assert found(tools=[{"type": "code_interpreter", "container": {"type": "auto"}}]) == []
    parameters = {"type": "object", "examples": [{"file_id": "x"}]}
    assert found(tools=[{"type": "function", "name": "f", "parameters": parameters}]) == []


@settings(deadline=None)
@given(
    st.sampled_from(
        [name for name in ID_FIELDS if name not in {"prompt", "conversation", "voice"}]
    ),
    st.lists(st.sampled_from(["x", "content", 0]), max_size=6),
    st.sampled_from(["input", "tools"]),
    st.sets(st.integers(0, 12)),
)
def test_no_depth_and_no_spelling_hides_an_id(
    name: str, path: list[str | int], field: str, escaped: set[int]
) -> None:
    value = '"the id"'
    if name.endswith("_ids"):
        value = f"[{value}]"
    spelled = "".join(
        f"\\u{ord(letter):04x}" if at in escaped else letter for at, letter in enumerate(name)
    )
    text = f'{{"{spelled}":{value}}}'
    for step in path:
        text = f"[{text}]" if step == 0 else f'{{"{step}":{text}}}'
    references = id_references(read_members(f'{{"{field}":{text}}}'.encode()), FIELDS)
    assert "the id" in {reference.id for reference in references}


def test_each_organization_has_a_space_of_its_own() -> None:
    namespaces = Namespaces(secret="secret", at_most=2)
    first, second = namespaces.of(1), namespaces.of(2)
    assert first.value("alice") == Namespace(1, secret="secret").value("alice")
    assert first.value("alice") != second.value("alice")
    assert first.value("alice") != Namespace(1, secret="another").value("alice")
    assert namespaces.of(3).value("alice") not in {first.value("alice"), second.value("alice")}
    assert namespaces.of(1).value("alice") == first.value("alice")


@given(st.text(max_size=100), st.text(max_size=100))
def test_values_stay_apart_and_within_upstreams_limit(one: str, other: str) -> None:
    space = Namespace(1, secret="secret")
    assert len(space.value(one)) <= MAX_LENGTH
    assert (space.value(one) == space.value(other)) == (one == other)


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=100), st.booleans())
def test_an_answer_says_what_the_client_said(text: str, ascii_only: bool) -> None:
    space = Namespace(1, secret="secret")
    answer = {"user": space.value(text), "output": "something"}
    encoded = json.dumps(answer, ensure_ascii=ascii_only).encode()
    restored = json.loads(space.restored(encoded, {"user": text}))
    assert restored == {"user": text, "output": "something"}
