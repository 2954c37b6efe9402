import fcntl
import json
import subprocess
import sys
from dataclasses import replace

import pytest
from flwr.supernode.cli.flower_supernode import _parse_args_run_supernode, parse_config_args

from client.deployment.supernode import _apart, _encode_ahead, run_node, supernode_command
from client.node.settings import node_settings
from client.privacy.app_guard_command import GUARDED, guarded_command
from common.encoder.device import DEVICE
from common.errors import EnrolmentError, FederationError, FedtailError, SettingsError
from common.files import write_atomic
from tests.support.doors import node_of, operator
from tests.support.flower_engine import free_port


@pytest.fixture
def node(tmp_path):
    return node_of(operator(tmp_path / "server", free_port()), tmp_path)


def options(node):
    """What Flower is told, behind the guard of this node's shop."""
    module = "client.deployment.supernode_process"
    shop = str(node.config().data)
    guard = [sys.executable, "-P", "-m", module, str(node.root), shop]
    command = supernode_command(node)
    assert command[: len(guard)] == guard
    return command[len(guard) :]


def test_flower_reads_the_command_as_it_is_meant(node):
    config = node.config()
    read = _parse_args_run_supernode().parse_args(options(node))
    assert read.superlink == config.server
    assert not read.insecure
    assert (read.host, f"{read.host}:{read.port}") == ("127.0.0.1", config.address)
    assert read.isolation == "process"
    settings = node_settings(parse_config_args([read.node_config]), {})
    assert (settings.merchant, settings.data) == ("shop-a", config.data)
    assert settings.state == config.data / "node"
    assert not settings.simulated


def test_a_shop_with_spaces_and_another_state_folder_is_found(node, tmp_path):
    shop = tmp_path / "a shop = with signs"
    shop.mkdir()
    config = replace(node.config(), data=shop, state=str(tmp_path / "the state"))
    write_atomic(node.settings_file, config.to_toml())
    read = _parse_args_run_supernode().parse_args(options(node))
    settings = node_settings(parse_config_args([read.node_config]), {})
    assert (settings.data, settings.state) == (shop, tmp_path / "the state")


def test_no_secret_stands_in_the_command(node):
    secret = node.key.read_text().splitlines()
    assert not any(line in " ".join(supernode_command(node)) for line in secret)


@pytest.mark.parametrize("sign", ['"', "\\", "'"])
def test_a_path_that_flower_would_read_as_its_own_words_is_refused(node, tmp_path, sign):
    shop = tmp_path / f"a{sign}b"
    shop.mkdir()
    write_atomic(node.settings_file, replace(node.config(), data=shop).to_toml())
    with pytest.raises(SettingsError) as caught:
        supernode_command(node)
    assert caught.value.field == "data"


@pytest.mark.parametrize("address", ["0.0.0.0:9094", "10.0.0.1:9094", "here:9094", "127.0.0.1:0"])
def test_health_is_for_this_machine_only(node, address):
    with pytest.raises(SettingsError) as caught:
        replace(node.config(), address=address)
    assert caught.value.field == "address"


def test_two_of_one_node_do_not_run(node):
    with (node.root / "node.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SettingsError, match="runs already"):
            run_node(node, print)


@pytest.fixture
def said():
    return []


@pytest.fixture
def apart(monkeypatch):
    """Which modules the node ran in processes of their own: here none is started."""
    asked = []
    monkeypatch.setattr(
        "client.deployment.supernode._apart", lambda _, module, *__: asked.append(module)
    )
    return asked


@pytest.fixture
def short_lived(node, said, apart, monkeypatch):
    """Run the node with a SuperNode that ends at once, and a server that answers as told."""
    monkeypatch.setattr("client.deployment.supernode.POLL_SECONDS", 0.01)
    monkeypatch.setattr("common.processes.POLL_SECONDS", 0.01)

    def run(*answers, code="print('no such thing')"):
        told = list(answers)

        def connection_wait_command(_folder):
            printed, let_in = [], True
            while told and (answer := told.pop(0)) is not None:
                let_in = not isinstance(answer, EnrolmentError)
                one = {"message": str(answer), "field": answer.field, "final": not let_in}
                printed.append(json.dumps(one))
                if not let_in:
                    break
            code = f"print({chr(10).join(printed)!r}); raise SystemExit({int(not let_in)})"
            return [sys.executable, "-c", code]

        monkeypatch.setattr(
            "client.deployment.supernode.connection_wait_command", connection_wait_command
        )
        monkeypatch.setattr("client.deployment.supernode._encode_ahead", lambda *_: None)
        ends = {"supernode": [sys.executable, "-c", code]}
        monkeypatch.setattr("client.deployment.supernode._commands", lambda _folder: ends)
        with pytest.raises(FedtailError) as caught:
            run_node(node, said.append)
        assert not told  # every answer was asked for
        return caught.value

    return run


def test_a_node_put_out_as_soon_as_it_started_is_told_so(short_lived):
    out = EnrolmentError("put out", field="node_key")
    error = short_lived(None, out)
    assert (type(error), str(error), error.field) == (EnrolmentError, "put out", "node_key")


def test_a_supernode_that_ends_at_once_is_not_started_for_ever(short_lived):
    error = short_lived(None, None)
    assert error.field == "node"
    assert "no such thing" in str(error)


def test_a_start_and_a_day_introduce_the_node_and_a_day_asks_for_its_certificate(
    short_lived, apart
):
    short_lived(None, None)
    start, day = ["client.node.introduction"], ["client.deployment.certificate"]
    assert apart == start + day + start


def test_what_fails_apart_is_said_and_stops_nothing(node):
    said = []
    _apart(node, "client.node.no_such_module", said.append)
    [line] = said
    assert line.startswith("The node's no_such_module failed:")
    assert "No module named" in line
    _apart(node, "client.node.no_such_module")  # told to nobody


@pytest.mark.parametrize("set_to", [None, "1000000"])
def test_a_node_gives_large_blocks_back_unless_its_environment_says_otherwise(
    short_lived, monkeypatch, set_to
):
    name = "MALLOC_MMAP_THRESHOLD_"
    if set_to:
        monkeypatch.setenv(name, set_to)
    error = short_lived(None, None, code=f"import os; print('at', os.environ[{name!r}])")
    assert f"at {set_to or 65536}" in str(error)


def test_a_node_tells_the_app_which_shops_policy_its_bundle_was_checked_for(short_lived, node):
    error = short_lived(None, None, code=f"import os; print('for', os.environ[{GUARDED!r}])")
    assert f"for {node.config().data.resolve()}" in str(error)


@pytest.mark.parametrize(
    "words",
    [("", "", "cpu"), ("", "mps", "mps"), ("cuda", "mps", "cuda"), ("cuda", "", "cuda")],
)
def test_what_a_node_starts_is_told_the_device(short_lived, node, monkeypatch, words):
    asked, configured, found = words
    monkeypatch.setenv(DEVICE, asked)
    lines = node.settings_file.read_text()
    assert 'device = ""\n' in lines
    node.settings_file.write_text(lines.replace('device = ""', f'device = "{configured}"'))
    code = f"import os; print('on', os.environ[{DEVICE!r}])"
    assert f"on {found}" in str(short_lived(None, None, code=code))
    monkeypatch.setattr(
        "client.deployment.supernode.encode_ahead_command",
        lambda *_: [sys.executable, "-c", code + "; raise SystemExit(1)"],
    )
    said = []
    _encode_ahead(node, said.append)
    assert f"on {found}" in said[1]


def test_a_node_whose_file_names_no_device_says_so(node):
    lines = node.settings_file.read_text().replace('device = ""', 'device = "gpu"')
    node.settings_file.write_text(lines)
    with pytest.raises(SettingsError, match="device is 'gpu'") as caught:
        run_node(node, print)
    assert caught.value.field == "device"


def test_a_supernode_that_ended_with_the_server_is_started_again(short_lived, said):
    away = FederationError("It is away.", field="server")
    assert short_lived(None, away, None, None).field == "node"
    assert said.count("It is away. Trying again every 5 seconds.") == 1


def test_a_connection_check_that_ends_in_no_known_way_stops_the_node_and_says_how(
    node, monkeypatch
):
    broken = [sys.executable, "-c", "raise SystemExit('no such module')"]
    monkeypatch.setattr(
        "client.deployment.supernode.connection_wait_command", lambda _folder: broken
    )
    monkeypatch.setattr("client.deployment.supernode._encode_ahead", lambda *_: None)
    with pytest.raises(FederationError, match="no such module"):
        run_node(node, print)


def test_the_starter_of_a_node_holds_neither_flower_nor_scipy():
    """It runs for months; what is loaded in it is memory that a merchant's machine lacks."""
    code = (
        "import sys, client.deployment.supernode; "
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    python = [sys.executable, "-P", "-c", code]
    loaded = subprocess.run(python, check=True, capture_output=True, text=True).stdout.split()
    assert "client" in loaded
    assert not {"flwr", "httpx", "scipy", "torch", "polars"} & set(loaded)


def test_a_catalogue_is_encoded_before_the_node_connects(node, monkeypatch):
    """In a process of its own, whose place is the node's; what `main` does there: its own test."""
    started = []

    def command(shop, cache):
        started.append((shop, cache))
        return [sys.executable, "-c", ""]

    monkeypatch.setattr("client.deployment.supernode.encode_ahead_command", command)
    said = []
    _encode_ahead(node, said.append)
    assert len(said) == 1
    shop = node.config().data.resolve()
    assert started == [(shop, shop / "node" / "cache")]


def test_a_shop_that_cannot_be_encoded_is_said_and_stops_nothing_yet(node):
    said = []
    _encode_ahead(node, said.append)
    assert len(said) == 2
    assert "no data set here" in said[1]


def test_a_folder_named_client_does_not_hide_the_package(tmp_path):
    (tmp_path / "client").mkdir()
    python = guarded_command(tmp_path)[: guarded_command(tmp_path).index("-m")]
    shown = subprocess.run(
        [*python, "-c", "import client; print(client.__file__)"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert shown.stdout.strip().endswith("__init__.py")
