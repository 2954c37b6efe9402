"""Who may read what in the server's folder, and whether the proxy can read a key that is not its.

nginx reads what strangers send. Where it runs under a user of its own (`proxy_user` in
server.toml), that user reads the configuration, the server's certificate and its key, the
authorities' certificates and what is public; and of the keys that say which release is the newest,
the list of nodes, SuperLink's database and the journal nothing at all. The keys that sign releases,
invites and certificates are the operator's and do not lie here.
"""

import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from common.errors import EnrolmentError, SettingsError
from server.operations.folder import ServerFolder

FOR_OWNER, FOR_GROUP = 0o600, 0o640
_INNER = 0o700


def secrets(folder: ServerFolder) -> tuple[Path, ...]:
    """Return the files that nobody but the server's own user may read."""
    journal_key = folder.journal.with_suffix(".key")
    return (
        *sorted(folder.online.glob("*.key")),
        folder.registry,
        journal_key,
    )


def check_ownership(folder: ServerFolder) -> None:
    """Refuse a folder in which somebody may read a secret who must not.

    Raises:
        EnrolmentError: naming the file, its mode or owner, and what to run.
        SettingsError: if `proxy_user` is no user of this machine.
    """
    proxy = _user(folder)
    for path in filter(Path.exists, secrets(folder)):
        _check_secret(path, FOR_OWNER)
    for path in filter(Path.exists, (*secrets(folder), folder.database)):
        if proxy is not None and _may_read(path, proxy):
            raise EnrolmentError(
                f"The proxy's user {proxy.pw_name} may read {path}, which is the server's alone. "
                "Run the server under another user than the proxy.",
                field="proxy_user",
            )
    _check_secret(folder.tls_key, FOR_OWNER if proxy is None else FOR_GROUP)
    if proxy is not None and not _may_read(folder.tls_key, proxy):
        raise EnrolmentError(
            f"The proxy's user {proxy.pw_name} may not read {folder.tls_key}, its own key. Run "
            "`fedtail server start` once as the folder's owner, who must be in the group of "
            f"{proxy.pw_name}, and see that the folders above let it through.",
            field="proxy_user",
        )


def one_user(folder: ServerFolder) -> str:
    """Return a warning where proxy and keys share a user; empty where they do not."""
    if folder.settings().proxy_user:
        return ""
    return (
        "The proxy runs under the user who may read the server's own keys and its list of nodes: "
        "for trying only. Name another with `proxy_user` in server.toml."
    )


def give_to_proxy(folder: ServerFolder) -> None:
    """Let the proxy's user read what it needs, where it is another one; see the module.

    Raises:
        SettingsError: if there is no such user, or its group may not be given away by this one.
    """
    user = _user(folder)
    if user is None:
        return
    try:
        # To pass through, not to look around: each folder inside has a mode of its own.
        os.chown(folder.root, -1, user.pw_gid)
        folder.root.chmod(0o710)
        for path, mode in _shared(folder):
            os.chown(path, -1, user.pw_gid)
            path.chmod(mode)
        for inner in (folder.flower_home, folder.logs, folder.runs, folder.cache):
            if inner.exists():
                inner.chmod(_INNER)
        if folder.journal.parent.exists():
            folder.journal.parent.chmod(_INNER)
    except PermissionError:
        raise SettingsError(
            f"{user.pw_name}'s group cannot be given the proxy's files: run `usermod -aG "
            f"{user.pw_name} {pwd.getpwuid(os.geteuid()).pw_name}` as root, log in anew, and start "
            "again.",
            field="proxy_user",
        ) from None


def _shared(folder: ServerFolder) -> Iterator[tuple[Path, int]]:
    yield folder.tls_key.parent, 0o750
    yield folder.tls_key, FOR_GROUP
    yield folder.tls_certificate, FOR_GROUP
    yield folder.authority, FOR_GROUP
    yield folder.proxy, 0o750
    yield folder.proxy_run, 0o2770
    for path in folder.proxy.glob("*.conf"):
        yield path, FOR_GROUP


def _check_secret(path: Path, most: int) -> None:
    status = path.stat()
    mode = stat.S_IMODE(status.st_mode)
    if mode & ~most & 0o777:
        raise EnrolmentError(
            f"{path} has mode {mode:o}, so others may use it; it must be {most:o}. If nobody else "
            f"had access, run chmod {most:o} on it; if somebody had, make a new one.",
            field=path.name,
        )


def _may_read(path: Path, user: pwd.struct_passwd) -> bool:
    """Return whether `user` may read `path`, by the modes of it and of all folders above."""
    if user.pw_uid == 0:
        return True
    groups = set(os.getgrouplist(user.pw_name, user.pw_gid))

    def allows(place: Path, bit: int) -> bool:
        status = place.stat()
        if status.st_uid == user.pw_uid:
            return bool(status.st_mode & bit << 6)
        return bool(status.st_mode & (bit << 3 if status.st_gid in groups else bit))

    whole = path.resolve()
    return allows(whole, 4) and all(allows(above, 1) for above in whole.parents)


def _user(folder: ServerFolder) -> pwd.struct_passwd | None:
    name = folder.settings().proxy_user
    if not name:
        return None
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise SettingsError(
            f"`proxy_user` is {name!r}, and there is no such user here: useradd --system "
            f"--no-create-home --shell /usr/sbin/nologin {name}",
            field="proxy_user",
        ) from None
