"""The folder with the official SDK for Node.js, and programs that run in it."""

import os
import shutil
import subprocess
from pathlib import Path

NODE = Path(__file__).parent / "node"
SECONDS = 120


def run(*command: str, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def installed(folder: Path, *, source: Path = NODE) -> Path:
    """A package just as it was locked: `make test` has installed it, else it goes to `folder`."""
    if (source / "node_modules" / ".installed").exists():
        return source
    for file in source.glob("*.*"):
        shutil.copy(file, folder)
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
    run("npm", "ci", *quiet, folder=folder)
    return folder
