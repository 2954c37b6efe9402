"""The commands of docs/how-to-rotate-keys.md, as they stand there and in their order."""

import shutil
from dataclasses import replace
from pathlib import Path

from typer.testing import CliRunner

import fedtail
from client.deployment.provisioning import NodeFolder
from common.files import write_atomic
from server.operations.folder import ServerFolder
from tests.support.doors import web_server
from tests.support.repositories import Operator
from tests.test_project import commands

PAGE = Path(__file__).parents[4] / "docs" / "how-to-rotate-keys.md"
BEFORE = (
    "server init --folder fed-server --keys fed-keys --host 127.0.0.1 --listen 127.0.0.1",
    "server invite --folder fed-server --keys fed-keys --name shop-a",
    "client init --folder fed-node --invite shop-a.invite --shop shop",
    "server enrol --folder fed-server --keys fed-keys --request fed-node/enrol.json",
)


def run(words):
    done = CliRunner().invoke(fedtail.app, words)
    assert done.exit_code == 0, (words, done.output, done.exception)
    return done.output


def served(server):
    """Its static files over TLS, as the proxy serves them, with the certificate of now."""
    return web_server(server.public, server.tls_certificate, server.tls_key)


def test_every_command_of_the_page_does_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop").mkdir()
    for line in BEFORE:
        run(line.split())
    server, node = ServerFolder(tmp_path / "fed-server"), NodeFolder(tmp_path / "fed-node")
    operator = Operator.of(server)
    monkeypatch.setattr(Operator, "keys", property(lambda _: _keys(tmp_path)))
    operator.publish("1.0")
    given = list(commands(PAGE))
    assert len(given) > 15
    for words in given:
        if words[1:3] == ["client", "fetch"]:
            with served(server) as port:
                write_atomic(
                    node.settings_file,
                    replace(node.config(), server=f"127.0.0.1:{port}").to_toml(),
                )
                assert "Verified: fed-node/releases/1.0/release" in run(words[1:])
            continue
        if words[1:3] == ["server", "enrol"]:
            shutil.copy(node.request, "enrol.json")  # the merchant sends it
        run(words[1:])
    assert (tmp_path / "fed-keys" / "retired").is_dir()


def _keys(place):
    from server.operations.key_folder import KeyFolder

    return KeyFolder(place / "fed-keys", "main")
