"""`fedtail server`: what an operator runs."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from server.operations.cli import Folder as _Folder
from server.operations.cli import Keys, PassphraseFile, open_folders, open_keys, read_passphrase
from server.operations.cli import app as publishing
from server.operations.cli import say as _say
from server.operations.door_cli import app as door

if TYPE_CHECKING:
    from server.operations.folder import ServerFolder

app = typer.Typer(
    help="The operator's side: certificates, and which merchants' nodes may connect.",
    no_args_is_help=True,
)

app.add_typer(door)
app.add_typer(publishing)  # without a name: its commands stand beside the others


def _tell_server(folder: "ServerFolder") -> None:
    """Have a running server let in and refuse what the list of nodes says now."""
    from server.operations.admission import admit
    from server.operations.door.keeping import admit_now
    from server.operations.superlink import control, superlink_answers

    for line in admit_now(folder):
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


@app.command()
def init(
    folder: Annotated[Path, typer.Option(help="A new folder for the server.")],
    keys: Keys,
    host: Annotated[
        list[str], typer.Option(help="A name or address of the server; repeat it. First: invites.")
    ],
    port: Annotated[int, typer.Option(help="The port that nodes connect to.")] = 8443,
    listen: Annotated[str, typer.Option(help="The address here that they connect to.")] = "0.0.0.0",  # noqa: S104 - to be reached is what the proxy is for
    superlink_port: Annotated[int, typer.Option(help="SuperLink's port, on the loopback.")] = 9092,
    proxy_user: Annotated[
        str, typer.Option(help="The user of the proxy, who can read no key that signs; else yours.")
    ] = "",
    federation: Annotated[str, typer.Option(help="The federation's name, public.")] = "main",
    repository: Annotated[
        Path | None,
        typer.Option(
            help="Where the repository of releases lies, such as another server's folder."
        ),
    ] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make the server's folder, the operator's keys and a repository of releases."""
    from server.operations.folder import ServerSettings
    from server.operations.provisioning import init_server

    settings = ServerSettings(
        tuple(host),
        port,
        listen,
        superlink_port,
        federation=federation,
        repository="" if repository is None else str(repository.resolve()),
        proxy_user=proxy_user,
    )
    held = open_keys(keys, federation, passphrase_file)
    secret = b"" if passphrase_file is None else read_passphrase(passphrase_file)
    made = init_server(folder, held, settings, datetime.now(UTC), secret)
    _say(f"Made {made.root}. Keep a copy where only you can read it.")
    _say(f"The keys are in {keys}. The server runs without them: keep them, and a copy, elsewhere.")


@app.command()
def invite(
    folder: _Folder,
    keys: Keys,
    name: Annotated[str, typer.Option(help="The merchant's name in the federation, public.")],
    out: Annotated[Path | None, typer.Option(help="The file; else NAME.invite here.")] = None,
    days: Annotated[int, typer.Option(min=1, max=365, help="How long it is good.")] = 14,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make a one-time invite for a merchant. Send it where only that merchant reads it."""
    from common.identity.signing_key import PublicKey
    from server.operations.provisioning import make_invite, write_invite

    opened, held = open_folders(folder, keys, passphrase_file)
    made = make_invite(opened, held, name, datetime.now(UTC), valid_for=timedelta(days=days))
    path = out or Path(f"{name}.invite")
    write_invite(path, made)
    key = PublicKey.from_pem(made.enrolment_key.encode())
    _say(f"{path}: good once, until {made.expires}. The merchant will read to you: {key.key_id}")


@app.command()
def enrol(
    folder: _Folder,
    keys: Keys,
    request: Annotated[Path, typer.Option(help="The merchant's enrol.json.")],
    passphrase_file: PassphraseFile = None,
) -> None:
    """Let a node in, or take its new key in the old one's place, and sign its certificate."""
    from common.identity.enrolment import Request
    from server.operations.provisioning import enrol as let_in

    read = Request.load(request)
    opened, held = open_folders(folder, keys, passphrase_file)
    key = let_in(opened, held, read, datetime.now(UTC))
    _say(f"{read.name} is enrolled, key {key.fingerprint}")
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
def federate(
    folder: _Folder,
    experiment: Annotated[Path, typer.Argument(help="A TOML file: catalogues and settings.")],
    app_: Annotated[
        Path | None, typer.Option("--app", help="The checkout whose code nodes run; else this one.")
    ] = None,
) -> None:
    """Run EXPERIMENT, a TOML file of catalogues and settings, to its end.

    Given again it goes on from the last checkpoint. `publish` then signs the release.
    """
    from server.operations.experiment import Experiment
    from server.operations.federate import app_folder
    from server.operations.federate import federate as run
    from server.operations.folder import ServerFolder

    run(ServerFolder(folder), Experiment.load(experiment), app_ or app_folder(), _say)


@app.command()
def status(
    folder: _Folder,
    json_: Annotated[bool, typer.Option("--json", help="As JSON, with every number.")] = False,
) -> None:
    """Show nodes and how they stand, what ledgers have spent, and what a run waits for."""
    from server.monitoring.status import read_status
    from server.operations.door.node_certificates import certificate_warnings
    from server.operations.folder import ServerFolder

    opened, now = ServerFolder(folder), datetime.now(UTC)
    found = read_status(opened)
    if json_:
        typer.echo(found.to_json())
        return
    nodes = Table(
        *("node", "connected", "last contact", "in the run", "charges", "steps", "ε spent", "at δ")
    )
    for one in found.nodes:
        connected = "yes" if one.node is not None and one.node.connected else "no"
        spent = ["", "", "", ""]
        if one.spent is not None:
            epsilon, delta = f"{one.spent.epsilon:.2f}", f"{one.spent.delta:.0e}"
            spent = [str(one.spent.entries), str(one.spent.steps), epsilon, delta]
        note = found.standing(one.name)
        standing = "" if note is None else " ".join(filter(None, (note.state, note.reason)))
        nodes.add_row(one.name, connected, one.seen(now), standing, *spent)
    runs = Table("run", "round", "state")
    for run in found.runs:
        runs.add_row(run.name, f"{run.done}/{run.rounds}", run.outcome)
    Console().print(nodes, runs)
    for run in found.runs:
        if run.state is not None:
            _say(f"{run.name}: {run.state.told(now.timestamp())}")
    for warning in certificate_warnings(opened, now):
        Console(stderr=True).print(warning, style="yellow", soft_wrap=True)


@app.command()
def pause(folder: _Folder) -> None:
    """Let the run that goes on begin no other round, until `resume`."""
    from server.operations.folder import ServerFolder
    from server.operations.run_control import pause_run

    _say(f"{pause_run(ServerFolder(folder))} pauses once its round is done.")


@app.command()
def resume(folder: _Folder) -> None:
    """Let a paused run go on."""
    from server.operations.folder import ServerFolder
    from server.operations.run_control import resume_run

    _say(f"{resume_run(ServerFolder(folder))} goes on.")


@app.command()
def stop(
    folder: _Folder,
    now: Annotated[
        bool, typer.Option("--now", help="In the middle of a round, which nodes have paid for.")
    ] = False,
) -> None:
    """End the run that goes on after its round; `federate` goes on from there."""
    from server.operations.folder import ServerFolder
    from server.operations.run_control import stop_run

    _say(f"{stop_run(ServerFolder(folder), _say, now=now)} is stopped.")


@app.command()
def evict(folder: _Folder, name: Annotated[str, typer.Option(help="The merchant's name.")]) -> None:
    """Ask a merchant for nothing more in the run that goes on; its key stays enrolled."""
    from server.operations.folder import ServerFolder
    from server.operations.run_control import evict_node

    _say(f"{name} is out of {evict_node(ServerFolder(folder), name)} from its next round on.")


@app.command()
def readmit(
    folder: _Folder, name: Annotated[str, typer.Option(help="The merchant's name.")]
) -> None:
    """Take back a merchant that the run that goes on has evicted, quarantined or refused."""
    from server.operations.folder import ServerFolder
    from server.operations.run_control import readmit_node

    _say(f"{readmit_node(ServerFolder(folder), name)} asks {name} again.")


@app.command()
def rotate(folder: _Folder, keys: Keys, passphrase_file: PassphraseFile = None) -> None:
    """Give the server a new certificate, for the hosts that server.toml names now."""
    from server.operations.provisioning import rotate_certificate

    opened, held = open_folders(folder, keys, passphrase_file)
    rotate_certificate(opened, held, datetime.now(UTC))
    Console().print("Start the server again to use it. Nodes need nothing.")


@app.command()
def nodes(folder: _Folder) -> None:
    """List nodes and open invites, and warn of certificates that end within a month."""
    from common.identity.node_key import NodePublicKey
    from server.operations.folder import ServerFolder
    from server.operations.provisioning import warnings
    from server.operations.publication.publishing import metadata_warnings
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
    now = datetime.now(UTC)
    for warning in (*warnings(opened, now), *metadata_warnings(opened, now)):
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
    from server.operations.backup import read_backup, read_receipt, unheard
    from server.operations.backup import restore as put_back

    receipts = [read_receipt(copy, path) for path in receipt or ()]
    later = put_back(copy, folder, journal=journal, receipts=receipts)
    _say(f"{folder} is back, with {later} journal entries that came after the copy.")
    _say(
        f"Of who was enrolled or revoked after {read_backup(copy).made} it knows nothing: compare "
        "`fedtail server nodes`, and revoke again before you start it."
    )
    if journal is None and (names := unheard(copy, receipts)):
        _say(
            f"Nor whether they took part in a round after it, who had in none before: "
            f"{', '.join(names)}. Ask each for its receipt before you start it."
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
