"""`fedtail server`: what an operator runs."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

if TYPE_CHECKING:
    from server.operations.folder import ServerFolder

app = typer.Typer(
    help="The operator's side: certificates, and which merchants' nodes may connect.",
    no_args_is_help=True,
)


def _say(line: str) -> None:
    Console().print(line, soft_wrap=True)


def _tell_server(folder: "ServerFolder") -> None:
    """Have a running server let in and refuse what the list of nodes says now."""
    from server.operations.admission import admit
    from server.operations.door.keeping import admit_now
    from server.operations.superlink import control, superlink_answers

    for line in admit_now(folder, datetime.now(UTC)):
        _say(line)

    if not superlink_answers(folder):
        _say("The server is not running; it acts on this when it is started.")
        return
    with control(folder) as link:
        changed = admit(folder, link)
    for name in changed.admitted:
        _say(f"The running server lets {name} in.")
    for name in changed.refused:
        _say(f"The running server refuses the old key of {name} from now on.")


_Folder = Annotated[Path, typer.Option(help="The server's folder.")]


@app.command()
def init(
    folder: Annotated[Path, typer.Option(help="A new folder for the server.")],
    host: Annotated[
        list[str], typer.Option(help="A name or address of the server; repeat it. First: invites.")
    ],
    port: Annotated[int, typer.Option(help="The port that nodes connect to.")] = 8443,
    listen: Annotated[str, typer.Option(help="The address here that they connect to.")] = "0.0.0.0",  # noqa: S104 - to be reached is what the proxy is for
    superlink_port: Annotated[int, typer.Option(help="SuperLink's port, on the loopback.")] = 9092,
    proxy_user: Annotated[
        str, typer.Option(help="The user of the proxy, who can read no key that signs; else yours.")
    ] = "",
) -> None:
    """Make the authority, the server's certificate and the keys for invites and releases."""
    from server.operations.folder import ServerSettings
    from server.operations.provisioning import init_server

    settings = ServerSettings(tuple(host), port, listen, superlink_port, proxy_user)
    made = init_server(folder, settings, datetime.now(UTC))
    Console().print(f"Made {made.root}. Keep a copy where only you can read it.", soft_wrap=True)


@app.command()
def invite(
    folder: _Folder,
    name: Annotated[str, typer.Option(help="The merchant's name in the federation, public.")],
    out: Annotated[Path | None, typer.Option(help="The file; else NAME.invite here.")] = None,
    days: Annotated[int, typer.Option(min=1, max=365, help="How long it is good.")] = 14,
) -> None:
    """Make a one-time invite for a merchant. Send it where only that merchant reads it."""
    from common.identity.signing_key import PublicKey
    from server.operations.folder import ServerFolder
    from server.operations.provisioning import make_invite, write_invite

    opened = ServerFolder(folder)
    made = make_invite(opened, name, datetime.now(UTC), valid_for=timedelta(days=days))
    path = out or Path(f"{name}.invite")
    write_invite(path, made)
    key = PublicKey.from_pem(made.enrolment_key.encode())
    Console().print(
        f"{path}: good once, until {made.expires}. The merchant will read to you: {key.key_id}",
        soft_wrap=True,
    )


@app.command()
def enrol(
    folder: _Folder, request: Annotated[Path, typer.Option(help="The merchant's enrol.json.")]
) -> None:
    """Let a node in, or take its new key in the old one's place."""
    from common.identity.enrolment import Request
    from server.operations.folder import ServerFolder
    from server.operations.provisioning import enrol as let_in

    read = Request.load(request)
    opened = ServerFolder(folder)
    key = let_in(opened, read, datetime.now(UTC))
    Console().print(f"{read.name} is enrolled, key {key.fingerprint}", soft_wrap=True)
    _tell_server(opened)


@app.command()
def revoke(
    folder: _Folder, name: Annotated[str, typer.Option(help="The merchant's name.")]
) -> None:
    """Bar a node's key for ever."""
    from server.operations.folder import ServerFolder
    from server.operations.provisioning import revoke as put_out

    opened = ServerFolder(folder)
    put_out(opened, name, datetime.now(UTC))
    Console().print(f"{name} is revoked.")
    _tell_server(opened)


@app.command()
def start(
    folder: _Folder,
    proxy: Annotated[
        bool, typer.Option(help="Start nginx too; without, you put a proxy before SuperLink.")
    ] = True,
) -> None:
    """Run the server until Ctrl-C: SuperLink on the loopback, and the proxy that nodes reach."""
    from server.operations.folder import ServerFolder
    from server.operations.supervisor import serve

    opened = ServerFolder(folder)
    serve(opened, datetime.now(UTC), _say, proxy=proxy)


@app.command()
def proxy(folder: _Folder) -> None:
    """Be the proxy, under its own user, beside `start --no-proxy` under the server's."""
    import os

    from server.operations.door.proxy import proxy_command
    from server.operations.folder import ServerFolder

    command = proxy_command(ServerFolder(folder))
    os.umask(0o027)
    os.execv(command[0], command)  # noqa: S606 - our own command, no shell


@app.command()
def check(folder: _Folder) -> None:
    """Check who may read which key, the certificates and the proxy's configuration."""
    from server.operations.door.ownership import check_ownership, one_user
    from server.operations.door.proxy import check_proxy, write_proxy_config
    from server.operations.folder import ServerFolder
    from server.operations.provisioning import warnings

    opened = ServerFolder(folder)
    write_proxy_config(opened)
    check_ownership(opened)
    check_proxy(opened)
    for warning in filter(None, (one_user(opened), *warnings(opened, datetime.now(UTC)))):
        Console(stderr=True).print(warning, style="yellow", soft_wrap=True)
    _say(f"{folder}: keys are their owner's alone, and the proxy's configuration is good.")


@app.command()
def renew(folder: _Folder) -> None:
    """Give nodes whose certificate is due a new one; a running server does so each day."""
    from server.operations.door.keeping import renew as renew_due
    from server.operations.folder import ServerFolder

    for line in renew_due(ServerFolder(folder), datetime.now(UTC)):
        _say(line)


@app.command()
def federate(
    folder: _Folder,
    experiment: Annotated[Path, typer.Argument(help="A TOML file: catalogues and settings.")],
    app_: Annotated[
        Path | None, typer.Option("--app", help="The checkout whose code nodes run; else this one.")
    ] = None,
) -> None:
    """Run EXPERIMENT, a TOML file of catalogues and settings, to its signed release.

    Given again it goes on from the last checkpoint.
    """
    from server.operations.experiment import Experiment
    from server.operations.federate import app_folder
    from server.operations.federate import federate as run
    from server.operations.folder import ServerFolder

    run(ServerFolder(folder), Experiment.load(experiment), app_ or app_folder(), _say)


@app.command()
def status(folder: _Folder) -> None:
    """Show nodes, their last contact and what their ledgers have spent, and the runs."""
    from server.monitoring.status import read_status
    from server.operations.folder import ServerFolder

    now, found = datetime.now(UTC), read_status(ServerFolder(folder))
    nodes = Table("node", "connected", "last contact", "charges", "steps", "ε spent", "at δ")
    for one in found.nodes:
        connected = "yes" if one.node is not None and one.node.connected else "no"
        spent = ["", "", "", ""]
        if one.spent is not None:
            epsilon, delta = f"{one.spent.epsilon:.2f}", f"{one.spent.delta:.0e}"
            spent = [str(one.spent.entries), str(one.spent.steps), epsilon, delta]
        nodes.add_row(one.name, connected, one.seen(now), *spent)
    runs = Table("run", "round", "state")
    for run in found.runs:
        runs.add_row(run.name, f"{run.done}/{run.rounds}", run.outcome)
    Console().print(nodes, runs)


@app.command()
def rotate(folder: _Folder) -> None:
    """Give the server a new certificate, for the hosts that server.toml names now."""
    from server.operations.folder import ServerFolder
    from server.operations.provisioning import rotate_certificate

    rotate_certificate(ServerFolder(folder), datetime.now(UTC))
    Console().print("Start the server again to use it. Nodes need nothing.")


@app.command()
def nodes(folder: _Folder) -> None:
    """List nodes and open invites, and warn of certificates that end within a month."""
    from common.identity.node_key import NodePublicKey
    from server.operations.folder import ServerFolder
    from server.operations.provisioning import warnings
    from server.operations.registry import read_registry

    opened = ServerFolder(folder)
    table = Table("node", Column("key", overflow="fold"), "enrolled", "revoked")
    registry = read_registry(opened.registry)
    for name, node in sorted(registry.nodes.items()):
        fingerprint = NodePublicKey(node.public_key).fingerprint
        table.add_row(name, fingerprint, node.enrolled, node.revoked)
    Console().print(table)
    for invite_ in registry.invites.values():
        _say(f"{invite_.name} is invited until {invite_.expires}.")
    for warning in warnings(opened, datetime.now(UTC)):
        Console(stderr=True).print(warning, style="yellow", soft_wrap=True)


@app.command()
def backup(
    folder: _Folder, out: Annotated[Path, typer.Argument(help="A new folder for the copy.")]
) -> None:
    """Copy the server's folder to OUT, also while the server runs. The copy holds its keys."""
    from server.operations.backup import back_up
    from server.operations.folder import ServerFolder

    made = back_up(ServerFolder(folder), out, datetime.now(UTC))
    _say(f"{out}: {len(made.files)} files, the journal up to entry {made.entries}.")


@app.command()
def restore(
    copy: Annotated[Path, typer.Argument(help="What `backup` made.")],
    folder: Annotated[Path, typer.Option(help="A new folder for the server.")],
    journal: Annotated[
        Path | None, typer.Option(help="The journal as it was last, from the old disk.")
    ] = None,
    receipt: Annotated[
        list[Path] | None,
        typer.Option(help="A node's ledger.sqlite.receipts; repeat it. Where the journal is lost."),
    ] = None,
) -> None:
    """Put COPY back, if nothing that was countersigned after it would be forgotten."""
    from server.operations.backup import read_backup, read_receipt
    from server.operations.backup import restore as put_back

    receipts = [read_receipt(copy, path) for path in receipt or ()]
    later = put_back(copy, folder, journal=journal, receipts=receipts)
    _say(f"{folder} is back, with {later} journal entries that came after the copy.")
    _say(
        f"Of who was enrolled or revoked after {read_backup(copy).made} it knows nothing: compare "
        "`fedtail server nodes`, and revoke again before you start it."
    )


_Watched = Annotated[Path, typer.Argument(help="The server's folder, or a run's.")]


@app.command()
def journal(
    folder: _Watched,
    json_: Annotated[bool, typer.Option("--json", help="As JSON, with every number.")] = False,
) -> None:
    """Check the journal in FOLDER; print rounds, merchants, heads, bytes, time and releases."""
    from server.monitoring.journal_tables import journal_tables
    from server.monitoring.journal_view import read_view

    view = read_view(folder)
    if json_:
        typer.echo(view.to_json())
        return
    for part in journal_tables(view):
        Console().print(part)


@app.command()
def page(
    folder: _Watched,
    host: Annotated[str, typer.Option(help="An address of this machine's loopback.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = 8060,
) -> None:
    """Show what `journal` prints of FOLDER as a page, on this machine only, until Ctrl-C."""
    from server.monitoring.journal_page import page_server
    from server.monitoring.journal_view import read_view

    read_view(folder)  # a wrong folder is said here, not in the browser
    with page_server(folder, host, port) as served:
        _say(f"http://{host}:{served.server_port}/ until Ctrl-C")
        with suppress(KeyboardInterrupt):
            served.serve_forever()
