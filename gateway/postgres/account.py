"""The operating system's user that PostgreSQL runs as."""

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.postgres.errors import PostgresUnavailable

USER_NAME = "tollgate-postgres"
# useradd is not on the PATH of a root shell that came from a plain `su`.
TOOLS_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"
# Between the ranges that distributions, systemd and containers hand out.
FIRST_UNNAMED_ID = 60_932


@dataclass(frozen=True)
class Account:
    """User and group of the server. `switch` says whether a child has to become that user."""

    uid: int
    gid: int
    switch: bool

    @property
    def named(self) -> bool:
        return _name_of(self.uid) is not None

    @property
    def process_options(self) -> dict[str, Any]:
        """What `subprocess` needs for a child that runs as this user, with no group but its own."""
        if not self.switch:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def server_account() -> Account:
    """Ourselves, or for root a user that nothing else runs as: PostgreSQL refuses to be root.

    `nobody` will not do: it is shared, and every other process of it could open the database.
    """
    if os.geteuid() != 0:
        return Account(uid=os.geteuid(), gid=os.getegid(), switch=False)
    return _dedicated() or _created() or _unnamed()


def creator_account(account: Account) -> Account:
    """Who runs initdb for that account.

    initdb insists on a user that has a name, the server does not. So where a user cannot be added
    to the system, `nobody` makes the files in a directory that we hand over afterwards.
    """
    if account.named or not account.switch:
        return account
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError as error:
        raise PostgresUnavailable(
            f"PostgreSQL needs a user of its own: add a system user named {USER_NAME}"
        ) from error
    return Account(uid=entry.pw_uid, gid=entry.pw_gid, switch=True)


def give(tree: Path, account: Account) -> None:
    """Make a directory and all that is in it the account's own. Links are not followed."""
    for _, folders, files, descriptor in os.fwalk(tree):
        os.fchown(descriptor, account.uid, account.gid)
        for name in (*folders, *files):
            os.chown(name, account.uid, account.gid, dir_fd=descriptor, follow_symlinks=False)


def _dedicated() -> Account | None:
    try:
        entry = pwd.getpwnam(USER_NAME)
    except KeyError:
        return None
    if entry.pw_uid == 0:
        raise PostgresUnavailable(f"the user {USER_NAME} must not be root")
    return Account(uid=entry.pw_uid, gid=entry.pw_gid, switch=True)


def _created() -> Account | None:
    useradd = shutil.which("useradd", path=TOOLS_PATH)
    if useradd is None:
        return None
    # Its exit status does not matter: another process may have added the user a moment ago, and
    # where /etc is read-only the next way is taken.
    subprocess.run(  # noqa: S603 - the arguments are constants.
        [
            useradd,
            "--system",
            "--user-group",
            "--no-create-home",
            "--home-dir=/nonexistent",
            "--shell=/usr/sbin/nologin",
            "--comment=Tollgate embedded PostgreSQL",
            USER_NAME,
        ],
        check=False,
        capture_output=True,
    )
    return _dedicated()


def _unnamed() -> Account:
    """A number without a name serves as well, if nobody else has it."""
    uid = FIRST_UNNAMED_ID
    while _name_of(uid) is not None:
        uid += 1
    return Account(uid=uid, gid=uid, switch=True)


def _name_of(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None
