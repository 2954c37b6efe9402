"""deploy/compose without an engine: what each container may do, and nginx before a real service."""

import shutil
import ssl
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import yaml

from client.api.shop_client import ShopClient
from server.operations.folder import ServerSettings
from tests.support.doors import set_up
from tests.support.listening import listening
from tests.support.served import Counter
from tests.support.serving_process import free_port

COMPOSE = Path(__file__).parents[1] / "deploy" / "compose"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((COMPOSE / "compose.yaml").read_text("utf-8"))


def test_every_container_is_shut_in(compose):
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert {"mem_limit", "pids_limit"} <= service.keys(), name
        assert "privileged" not in service
        for volume in service.get("volumes", ()):
            assert volume.startswith("./"), "no folder of the machine's own, no engine's socket"


def test_nobody_is_root():
    lines = (COMPOSE.parent / "containers" / "Containerfile").read_text("utf-8").splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER")]
    assert users[-1] == "10001"
    assert lines.index("USER 10001") < lines.index('ENTRYPOINT ["fedtail"]')


def test_the_service_is_reached_by_the_proxy_alone(compose):
    service = compose["services"]["service"]
    assert service["network_mode"] == "service:proxy"
    assert "ports" not in service
    assert not any(word.startswith("--host") for word in service["command"])
    assert compose["services"]["proxy"]["ports"] == ["127.0.0.1:8443:8443"]
    assert compose["services"]["tools"]["network_mode"] == "none"


def test_secrets_are_files_and_in_no_variable(compose):
    assert all(set(one) == {"file"} for one in compose["secrets"].values())
    for service in compose["services"].values():
        for name in service.get("environment", {}):
            assert not any(word in name.lower() for word in ("key", "secret", "password", "token"))


def test_the_long_running_ones_say_whether_they_are_well(compose):
    for name in ("service", "operator"):
        assert compose["services"][name]["healthcheck"]["test"][0] == "CMD"


def test_the_commands_are_the_programs_own(compose):
    import typer

    import fedtail

    tree = typer.main.get_command(fedtail.app)
    for name in ("service", "operator"):
        command = tree
        words = compose["services"][name]["command"]
        given = [word for word in words if word.startswith("--")]
        for word in words[: len(words) - len(given)]:
            command = command.commands[word]
        known = {option for one in command.params for option in one.opts}
        assert {word.split("=")[0] for word in given} <= known


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
def test_the_proxy_speaks_tls_and_passes_on_what_it_should(tmp_path):
    port = free_port()
    server = tmp_path / "server"
    set_up(server, ServerSettings(("127.0.0.1",), port, "127.0.0.1"), datetime.now(UTC))
    counter = Counter(tmp_path)
    with listening(counter.app) as address:
        written = (COMPOSE / "nginx.conf").read_text("utf-8")
        for old, new in (
            ("/var/cache/nginx", str(tmp_path)),
            ("127.0.0.1:8080", address.removeprefix("http://")),
            ("listen 8443", f"listen 127.0.0.1:{port}"),
            ("/run/secrets/certificate", str(server / "tls" / "server.crt")),
            ("/run/secrets/private_key", str(server / "tls" / "server.key")),
        ):
            assert old in written
            written = written.replace(old, new)
        (tmp_path / "nginx.conf").write_text(written)
        command = [NGINX, "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "error.log")]
        subprocess.run([*command, "-t"], check=True, capture_output=True)
        process = subprocess.Popen([*command, "-g", "daemon off;"])
        try:
            ask_through(f"https://127.0.0.1:{port}", server / "authority.crt", counter.key)
        finally:
            process.terminate()
            process.wait(30)
    counter.store.close()


def ask_through(address, authority, key):
    trusted = ssl.create_default_context(cafile=authority)
    end = time.monotonic() + 30
    while True:
        try:
            assert httpx.get(f"{address}/health/live", verify=trusted).status_code == 200
            break
        except httpx.ConnectError:
            assert time.monotonic() < end
            time.sleep(0.02)
    with ShopClient(address, key, verify=trusted) as client:
        assert len(client.recommend(history=["item-3"]).items) == 10
    headers = {"X-API-Key": key}
    assert httpx.get(f"{address}/metrics", headers=headers, verify=trusted).status_code == 404
    large = httpx.post(f"{address}/v1/events", content=b"0" * 3_000_000, verify=trusted)
    assert large.status_code == 413
