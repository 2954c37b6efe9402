"""Who may read a key: by the modes of the file and of all folders above it."""

import os
import pwd
import tempfile
from pathlib import Path

import pytest

from common.errors import EnrolmentError, SettingsError
from server.operations.door.ownership import check_ownership, one_user, secrets
from server.operations.door.proxy import write_proxy_config
from server.operations.folder import ServerSettings
from tests.support.doors import now, operator, set_up
from tests.support.flower_engine import free_port

pytestmark = pytest.mark.attack

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to another user")


@pytest.fixture
def server(tmp_path):
    return operator(tmp_path / "server", free_port())


@pytest.fixture
def shared(tmp_path):
    """A server whose proxy has a user of its own; the folders above let everybody through."""
    for above in tmp_path.resolve().parents:
        if above == Path(tempfile.gettempdir()).resolve():
            break
        above.chmod(0o711)
    tmp_path.chmod(0o711)
    settings = ServerSettings(("127.0.0.1",), free_port(), "127.0.0.1", proxy_user="nobody")
    return set_up(tmp_path / "server", settings, now())


def test_one_user_for_both_is_told(server):
    check_ownership(server)
    assert "for trying only" in one_user(server)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_may_read_is_refused(server, mode):
    for secret in secrets(server):
        if secret.exists():
            secret.chmod(mode)
            with pytest.raises(EnrolmentError, match="must be 600"):
                check_ownership(server)
            secret.chmod(0o600)
    check_ownership(server)


@as_root
def test_a_proxy_with_its_own_user_reads_what_it_needs_and_no_key(shared):
    write_proxy_config(shared)
    check_ownership(shared)
    assert one_user(shared) == ""
    user, closed = pwd.getpwnam("nobody"), secrets(shared)
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        needed = [shared.tls_key, shared.authority, shared.proxy / "nginx.conf"]
        readable = all(os.access(path, os.R_OK) for path in needed)
        os._exit(0 if readable and not any(os.access(path, os.R_OK) for path in closed) else 1)
    assert os.waitpid(pid, 0)[1] == 0


@as_root
def test_a_key_that_the_proxys_user_may_read_is_refused(shared):
    write_proxy_config(shared)
    os.chown(shared.registry, pwd.getpwnam("nobody").pw_uid, -1)
    with pytest.raises(EnrolmentError) as caught:
        check_ownership(shared)
    assert caught.value.field == "proxy_user"


@as_root
def test_a_proxy_that_cannot_read_its_own_key_is_told(shared):
    write_proxy_config(shared)
    shared.tls_key.chmod(0o600)
    with pytest.raises(EnrolmentError, match="may not read"):
        check_ownership(shared)


def test_a_user_that_is_not_there_is_told(tmp_path):
    settings = ServerSettings(("127.0.0.1",), free_port(), proxy_user="no-such-user")
    server = set_up(tmp_path / "server", settings, now())
    with pytest.raises(SettingsError, match="no such user"):
        check_ownership(server)


@pytest.mark.parametrize("name", ["a b", "-x", "root;", "ÄÖ", "a" * 40])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(SettingsError) as caught:
        ServerSettings(("127.0.0.1",), proxy_user=name)
    assert caught.value.field == "proxy_user"
