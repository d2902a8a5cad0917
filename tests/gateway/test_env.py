from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from gateway.env import env_bool, env_choice, env_int, env_list, env_seconds, env_str


def test_a_missing_variable_is_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NAME", raising=False)
    assert env_str("NAME", "default") == "default"
    assert env_int("NAME", 3, least=1, most=9) == 3
    assert env_seconds("NAME", 0.5, least=0, most=9) == 0.5
    assert env_bool("NAME", default=True) is True
    assert env_choice("NAME", None, choices=("a",)) is None
    assert env_list("NAME", "a, b,,c") == ["a", "b", "c"]


def test_a_file_holds_a_mounted_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from the file\n")
    monkeypatch.setenv("NAME", "from the environment")
    monkeypatch.setenv("NAME_FILE", str(tmp_path / "secret"))
    assert env_str("NAME") == "from the file"


def test_an_unreadable_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NAME_FILE", str(tmp_path / "missing"))
    with pytest.raises(ImproperlyConfigured, match="NAME_FILE: cannot read"):
        env_str("NAME")


@pytest.mark.parametrize(
    ("value", "meant"), [("1", True), ("Yes", True), (" on ", True), ("0", False), ("off", False)]
)
def test_truth(monkeypatch: pytest.MonkeyPatch, value: str, *, meant: bool) -> None:
    monkeypatch.setenv("NAME", value)
    assert env_bool("NAME", default=not meant) is meant


@pytest.mark.parametrize("value", ["maybe", "2", "tru"])
def test_half_truth_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("NAME", value)
    with pytest.raises(ImproperlyConfigured, match="NAME must be one of"):
        env_bool("NAME", default=False)


@pytest.mark.parametrize("value", ["x", "1.5", "0", "10", "-1"])
def test_a_number_out_of_range_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("NAME", value)
    with pytest.raises(ImproperlyConfigured, match="NAME must be"):
        env_int("NAME", 3, least=1, most=9)


@pytest.mark.parametrize("value", ["x", "nan", "inf", "-0.1", "9.1"])
def test_seconds_out_of_range_are_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("NAME", value)
    with pytest.raises(ImproperlyConfigured, match="NAME must be"):
        env_seconds("NAME", 3, least=0, most=9)


def test_an_unknown_choice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAME", "c")
    with pytest.raises(ImproperlyConfigured, match="NAME must be one of a, b; it is 'c'"):
        env_choice("NAME", "a", choices=("a", "b"))
