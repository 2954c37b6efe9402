"""`fedtail server`: what an operator runs."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(
    help="The operator's side: certificates, and which merchants' nodes may connect.",
    no_args_is_help=True,
)

_Folder = Annotated[Path, typer.Option(help="The server's folder.")]


@app.command()
def init(
    folder: Annotated[Path, typer.Option(help="A new folder for the server.")],
    host: Annotated[
        list[str], typer.Option(help="A name or address of the server; repeat it. First: invites.")
    ],
    port: Annotated[int, typer.Option(help="The port that nodes connect to.")] = 8443,
) -> None:
    """Make the authority, the server's certificate and the keys for invites and releases."""
    from server.folder import ServerSettings
    from server.provisioning import init_server

    made = init_server(folder, ServerSettings(tuple(host), port), datetime.now(UTC))
    Console().print(f"Made {made.root}. Keep a copy where only you can read it.", soft_wrap=True)


@app.command()
def invite(
    folder: _Folder,
    name: Annotated[str, typer.Option(help="The merchant's name in the federation, public.")],
    out: Annotated[Path | None, typer.Option(help="The file; else NAME.invite here.")] = None,
    days: Annotated[int, typer.Option(min=1, max=365, help="How long it is good.")] = 14,
) -> None:
    """Make a one-time invite for a merchant. Send it where only that merchant reads it."""
    from common.release.signing import PublicKey
    from server.folder import ServerFolder
    from server.provisioning import make_invite, write_invite

    opened = ServerFolder(folder)
    made = make_invite(opened, name, datetime.now(UTC), valid_for=timedelta(days=days))
    path = out or Path(f"{name}.invite")
    write_invite(path, made)
    key = PublicKey.from_pem(made.enrolment_key.encode())
    Console().print(
        f"{path}: good once, until {made.expires}. The merchant will read to you: "
        f"{key.key_id[:32]}",
        soft_wrap=True,
    )


@app.command()
def enrol(
    folder: _Folder, request: Annotated[Path, typer.Option(help="The merchant's enrol.json.")]
) -> None:
    """Let a node in, or take its new key in the old one's place."""
    from common.enrolment import Request
    from server.folder import ServerFolder
    from server.provisioning import enrol as let_in

    read = Request.load(request)
    opened = ServerFolder(folder)
    key = let_in(opened, read, datetime.now(UTC))
    Console().print(f"{read.name} is enrolled, key {key.fingerprint[:32]}", soft_wrap=True)
    Console().print(f"Its key for Flower: {opened.node_keys / read.name}.pub", soft_wrap=True)


@app.command()
def revoke(
    folder: _Folder, name: Annotated[str, typer.Option(help="The merchant's name.")]
) -> None:
    """Bar a node's key for ever."""
    from server.folder import ServerFolder
    from server.provisioning import revoke as put_out

    put_out(ServerFolder(folder), name, datetime.now(UTC))
    Console().print(f"{name} is revoked. Unregister it in Flower too: flwr supernode unregister")


@app.command()
def rotate(folder: _Folder) -> None:
    """Give the server a new certificate, for the hosts that server.toml names now."""
    from server.folder import ServerFolder
    from server.provisioning import rotate_certificate

    rotate_certificate(ServerFolder(folder), datetime.now(UTC))
    Console().print("Start the server again to use it. Nodes need nothing.")


@app.command()
def nodes(folder: _Folder) -> None:
    """List enrolled and revoked nodes, and warn of certificates that end within a month."""
    from common.node_key import NodePublicKey
    from server.folder import ServerFolder
    from server.provisioning import warnings
    from server.registry import read_registry

    opened = ServerFolder(folder)
    table = Table("node", "key", "enrolled", "revoked")
    for name, node in sorted(read_registry(opened.registry).nodes.items()):
        fingerprint = NodePublicKey(node.public_key).fingerprint[:32]
        table.add_row(name, fingerprint, node.enrolled, node.revoked)
    Console().print(table)
    for warning in warnings(opened, datetime.now(UTC)):
        Console(stderr=True).print(warning, style="yellow", soft_wrap=True)
