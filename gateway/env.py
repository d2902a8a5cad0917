"""Typed reading of the environment. A bad value stops the start and names the variable."""

import os
from pathlib import Path
from typing import overload

from django.core.exceptions import ImproperlyConfigured

TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"0", "false", "no", "off", ""})


def env_str(name: str, default: str = "") -> str:
    """The variable, or the content of the file that NAME_FILE points at (for mounted secrets)."""
    file = os.environ.get(f"{name}_FILE")
    if file:
        try:
            return Path(file).read_text().strip()
        except OSError as error:
            raise ImproperlyConfigured(f"{name}_FILE: cannot read {file}: {error}") from error
    return os.environ.get(name, default)


def env_bool(name: str, *, default: bool) -> bool:
    value = env_str(name, "1" if default else "0").strip().lower()
    if value in TRUE:
        return True
    if value in FALSE:
        return False
    raise ImproperlyConfigured(
        f"{name} must be one of 1, 0, true, false, yes, no; it is {value!r}."
    )


def env_int(name: str, default: int, *, least: int, most: int) -> int:
    value = env_str(name)
    try:
        number = int(value) if value else default
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} must be a whole number; it is {value!r}.") from error
    if not least <= number <= most:
        raise ImproperlyConfigured(f"{name} must be between {least} and {most}; it is {number}.")
    return number


def env_seconds(name: str, default: float, *, least: float, most: float) -> float:
    value = env_str(name)
    try:
        seconds = float(value) if value else default
    except ValueError as error:
        raise ImproperlyConfigured(
            f"{name} must be a number of seconds; it is {value!r}."
        ) from error
    if not least <= seconds <= most:
        raise ImproperlyConfigured(f"{name} must be between {least} and {most} seconds.")
    return seconds


@overload
def env_choice(name: str, default: str, *, choices: tuple[str, ...]) -> str: ...
@overload
def env_choice(name: str, default: None, *, choices: tuple[str, ...]) -> str | None: ...
def env_choice(name: str, default: str | None, *, choices: tuple[str, ...]) -> str | None:
    value = env_str(name) or default
    if value is not None and value not in choices:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(choices)}; it is {value!r}.")
    return value


def env_list(name: str, default: str = "") -> list[str]:
    """The comma-separated, non-empty parts."""
    return [part.strip() for part in env_str(name, default).split(",") if part.strip()]
