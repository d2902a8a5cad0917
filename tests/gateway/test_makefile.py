"""The two commands, up to where they would install packages."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.gateway.running import ROOT

# Python as it is, except for what a test says about it.
_WRAPPER = """#!/bin/sh
PYTHONPATH={folder} exec {python} "$@"
"""
_VERSION = """
import collections, sys
Version = collections.namedtuple("Version", "major minor micro releaselevel serial")
sys.version_info = Version({version}, 0, "final", 0)
"""
_NO_VENV = """
import sys
sys.modules["ensurepip"] = None
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    clone = tmp_path / "clone"
    clone.mkdir()
    shutil.copy(ROOT / "Makefile", clone)
    shutil.copytree(ROOT / "requirements", clone / "requirements")
    return clone


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


def python(tmp_path: Path, customization: str) -> str:
    folder = tmp_path / "other python"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(customization)
    wrapper = tmp_path / "python"
    wrapper.write_text(_WRAPPER.format(folder=f"'{folder}'", python=sys.executable))
    wrapper.chmod(0o755)
    return f"PYTHON={wrapper}"


@pytest.mark.parametrize(
    "target", ["run", "test", "bench", "bench-short", "check", "requirements", "clean", "help"]
)
def test_targets_exist(target: str) -> None:
    done = make(ROOT, "--dry-run", target)
    assert done.returncode == 0, done.stderr


def test_run_starts_the_gateway_in_place_of_the_shell(clone: Path) -> None:
    assert "exec .venv/bin/python manage.py run" in make(clone, "--dry-run", "run").stdout


@pytest.mark.parametrize("version", ["3, 9", "3, 10", "3, 14"])
def test_another_python_is_refused(clone: Path, tmp_path: Path, version: str) -> None:
    done = make(clone, "run", python(tmp_path, _VERSION.format(version=version)))
    assert done.returncode != 0
    assert "Tollgate needs Python 3.11, 3.12 or 3.13" in done.stderr
    assert f"is {version.replace(', ', '.')}." in done.stderr
    assert not (clone / ".venv").exists()


def test_a_missing_venv_module_names_the_package(clone: Path, tmp_path: Path) -> None:
    done = make(clone, "run", python(tmp_path, _NO_VENV))
    assert done.returncode != 0
    assert "apt install python3-venv" in done.stderr
    assert not (clone / ".venv").exists()


def test_a_missing_python_is_named(clone: Path) -> None:
    done = make(clone, "run", "PYTHON=no-such-python")
    assert done.returncode != 0
    assert "There is no no-such-python" in done.stderr


def test_packages_are_installed_only_when_requirements_change(clone: Path) -> None:
    """With an environment that is newer than the requirements there is nothing to install."""
    binaries = clone / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "python").symlink_to(sys.executable)
    (clone / ".venv" / ".runtime").touch()
    assert "pip" not in make(clone, "--dry-run", "run").stdout
    # By more than a file system's clock may be coarse.
    later = time.time() + 10
    os.utime(clone / "requirements" / "runtime.txt", (later, later))
    assert "--require-hashes" in make(clone, "--dry-run", "run").stdout
