"""The proxy's configuration: Flower's own list of a node's paths, and nginx's own reading of it."""

import shutil
import socket

import pytest
from flwr.superlink.routers.fleet.router import router as fleet_router

from common.errors import SettingsError
from server.operations.door.proxy import (
    FLEET_PATHS,
    check_proxy,
    proxy_command,
    proxy_listens,
    write_proxy_config,
)
from tests.support.doors import operator
from tests.support.flower_engine import free_port

needs_nginx = pytest.mark.skipif(
    shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin") is None,
    reason="nginx is not installed",
)


@pytest.fixture
def server(tmp_path):
    return operator(tmp_path / "server", free_port())


def test_a_nodes_paths_are_all_of_flowers_but_who_may_be_a_node():
    flowers = {route.path.removeprefix("/v1/fleet/") for route in fleet_router.routes}
    assert flowers - set(FLEET_PATHS) == {"register-node", "unregister-node"}
    assert set(FLEET_PATHS) <= flowers


def test_the_upstream_is_checked_against_the_authority(server):
    text = write_proxy_config(server).read_text()
    settings = server.settings()
    assert f"server {settings.superlink};" in text
    assert settings.superlink.startswith("127.0.0.1:")
    assert "proxy_ssl_verify on;" in text
    assert f'proxy_ssl_trusted_certificate "{server.authority}";' in text
    assert "http://superlink" not in text


@needs_nginx
def test_nginx_accepts_it(server):
    write_proxy_config(server)
    check_proxy(server)


@needs_nginx
def test_what_nginx_refuses_is_told(server):
    write_proxy_config(server)
    server.tls_certificate.write_text("no certificate")
    with pytest.raises(SettingsError, match="nginx refuses"):
        check_proxy(server)


def test_a_folder_that_nginx_would_read_as_its_own_words_is_refused(tmp_path):
    server = operator(tmp_path / 'a"b', free_port())
    with pytest.raises(SettingsError) as caught:
        write_proxy_config(server)
    assert caught.value.field == "folder"


def test_no_secret_stands_in_the_command(server):
    write_proxy_config(server)
    if shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin"):
        assert all("PRIVATE" not in part for part in proxy_command(server))


def test_the_proxy_is_up_once_somebody_can_connect(tmp_path):
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        server = operator(tmp_path / "server", one.getsockname()[1])
        assert not proxy_listens(server)
        one.listen()
        assert proxy_listens(server)
