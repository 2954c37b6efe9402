"""`fedtail server keys`, `refresh`, `publish`, `withdraw` and more: what makes releases."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from server.operations.folder import ServerFolder
    from server.operations.key_folder import KeyFolder

app = typer.Typer()
keys_app = typer.Typer(
    help="The operator's keys: list them, make them, rotate each.", no_args_is_help=True
)
app.add_typer(keys_app, name="keys")

Folder = Annotated[Path, typer.Option(help="The server's folder.")]
Keys = Annotated[Path, typer.Option(help="The operator's folder of keys, best kept elsewhere.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(help="A file of mode 600 with the keys' passphrase; else it is asked for."),
]


def say(line: str) -> None:
    """Print a line as it is."""
    Console().print(line, soft_wrap=True, highlight=False)


def open_keys(root: Path, federation: str, passphrase_file: Path | None) -> "KeyFolder":
    """Return a folder of keys that reads or asks for its passphrase when one is needed."""
    from server.operations.key_folder import KeyFolder, Passphrase

    def ask() -> bytes:
        if passphrase_file is not None:
            return read_passphrase(passphrase_file)
        secret: str = typer.prompt("Passphrase of the keys", hide_input=True, err=True)
        return secret.encode()

    return KeyFolder(root, federation, Passphrase(ask))


def read_passphrase(path: Path) -> bytes:
    """Return a file's first line, which only its owner can read.

    Raises:
        EnrolmentError: if it cannot be read, or others may read it.
        InputError: if it is empty: the keys would be plain.
    """
    from common.errors import InputError
    from common.identity.node_key import read_secret

    secret = read_secret(path, "passphrase").splitlines()[:1]
    if not secret or not secret[0].strip():
        raise InputError(f"The first line of {path} is empty.", field="passphrase")
    return secret[0]


def open_folders(
    folder: Path, keys: Path, passphrase_file: Path | None
) -> "tuple[ServerFolder, KeyFolder]":
    """Return the server's folder, and the folder of keys for its federation."""
    from server.operations.folder import ServerFolder

    opened = ServerFolder(folder)
    return opened, open_keys(keys, opened.settings().federation, passphrase_file)


def _tell_proxy(folder: "ServerFolder") -> None:
    """Have a running proxy trust what authority.crt says now."""
    from server.operations.door.keeping import admit_now

    for line in admit_now(folder):
        say(line)


@keys_app.command("list")
def list_(folder: Folder) -> None:
    """List every key with its whole fingerprint, and until when what it signed holds."""
    from common.files import sha256_hex
    from server.operations.folder import ServerFolder
    from server.operations.publication.key_rotation import list_keys
    from server.operations.publication.publishing import open_repository

    opened, now = ServerFolder(folder), datetime.now(UTC)
    for one in list_keys(opened, now):
        ends = "" if one.expires is None else f", holds until {one.expires:%Y-%m-%d %H:%M}"
        say(f"{one.name}: kept in {one.kept}{ends}\n  {one.fingerprint}")
    repository = open_repository(opened, now)
    version = repository.root().version
    say(f"root of trust: {version}.root.json\n  {sha256_hex(repository.root_bytes())}")


@keys_app.command()
def new(
    folder: Folder,
    keys: Keys,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make the keys that are missing, and a repository of releases unless there is one.

    A folder of fedtail 0.1 hands over the keys that lie in it.
    """
    from server.operations.publication.older_folder import take_over

    opened, held = open_folders(folder, keys, passphrase_file)
    secret = b"" if passphrase_file is None else read_passphrase(passphrase_file)
    take_over(opened, held, datetime.now(UTC), secret)
    say(f"The keys are in {keys}. Keep them, and a copy, where only you can read them.")


@keys_app.command()
def rotate(
    name: Annotated[
        str,
        typer.Argument(help="root, targets, snapshot, timestamp, release, enrolment or authority."),
    ],
    folder: Folder,
    keys: Keys,
    done: Annotated[
        bool, typer.Option("--done", help="With authority: nodes have fetched; drop the old one.")
    ] = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Put a new key in the place of the one called NAME."""
    from common.errors import InputError
    from server.operations.publication.key_rotation import KEY_NAMES, retire_authority, rotate_key

    found = next((one for one in KEY_NAMES if one == name), None)
    if found is None or (done and found != "authority"):
        raise InputError(f"NAME must be one of {', '.join(KEY_NAMES)}.", field="name")
    opened, held = open_folders(folder, keys, passphrase_file)
    if done:
        retire_authority(opened, held, datetime.now(UTC))
        _tell_proxy(opened)
        say("Nodes trust the new authority alone, once they have fetched.")
        return
    rotated = rotate_key(opened, held, found, datetime.now(UTC))
    if found == "authority":
        _tell_proxy(opened)
    say(f"{name}: {rotated.old}\n  is now {rotated.new}\n{rotated.then}")


@app.command()
def refresh(
    folder: Folder,
    experiment: Annotated[Path, typer.Argument(help="The experiment's file, as for federate.")],
    epsilon: Annotated[
        float | None,
        typer.Option(help="What the refresh may cost a shopper; what it began with on a restart."),
    ] = None,
    day: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"],
            help="At whose start (UTC) the season ends. [default: today, or one that was stopped]",
        ),
    ] = None,
    app_: Annotated[
        Path | None, typer.Option("--app", help="The checkout whose code nodes run; else this one.")
    ] = None,
) -> None:
    """Take the season of the latest release anew, without training.

    EXPERIMENT is the file of the training. Each node gives one noised vector, and is charged for
    it once more. The release that `publish --season` then signs has the adapter as it was, and what
    sells more of late as it is now. Say weekly, or before a season turns;
    docs/how-to-refresh-the-season.md has what it costs.
    """
    from server.operations.experiment import Experiment
    from server.operations.federate import app_folder
    from server.operations.federate import federate as run
    from server.operations.folder import ServerFolder
    from server.operations.publication.season_refresh import refresh_experiment

    opened = ServerFolder(folder)
    ends = None if day is None else day.date()
    asked = refresh_experiment(opened, Experiment.load(experiment), epsilon=epsilon, day=ends)
    run(opened, asked, app_ or app_folder(), say)


@app.command()
def publish(
    folder: Folder,
    keys: Keys,
    experiment: Annotated[Path, typer.Argument(help="The experiment's file, as for federate.")],
    season: Annotated[
        bool, typer.Option("--season", help="Of its last `refresh`, not of its training.")
    ] = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Sign the release of EXPERIMENT, whose run has ended, and have merchants fetch it."""
    from server.operations.experiment import Experiment
    from server.operations.publication.publishing import publish as run
    from server.operations.publication.season_refresh import latest_refresh

    opened, held = open_folders(folder, keys, passphrase_file)
    asked = Experiment.load(experiment)
    if season:
        asked = latest_refresh(opened, asked)
    manifest = run(opened, held, asked, datetime.now(UTC))
    for name, merchant in manifest.privacy.merchants.items():
        audit = "not audited" if merchant.audit is None else f"audit ≥ {merchant.audit.epsilon:.2f}"
        say(f"{name}: ε {merchant.epsilon:.2f} at δ {merchant.delta:.0e}, {audit}")
    say(f"Release {manifest.version} is signed and published: {opened.repository}")


@app.command()
def withdraw(
    folder: Folder,
    keys: Keys,
    version: Annotated[str, typer.Argument(help="The release's version.")],
    reason: Annotated[str, typer.Option(help="Why, in a line that every merchant reads.")],
    passphrase_file: PassphraseFile = None,
) -> None:
    """Take release VERSION back: merchants go to the one before at their next fetch."""
    from server.operations.publication.publishing import withdraw as take_back
    from server.operations.publication.season_refresh import refreshes_of

    opened, held = open_folders(folder, keys, passphrase_file)
    left = take_back(opened, held, version, reason, datetime.now(UTC))
    used = "There is no other release." if left is None else f"Merchants are told to use {left}."
    say(f"Release {version} is withdrawn. {used}")
    for kept in refreshes_of(opened, version, datetime.now(UTC)):
        say(f"Release {kept} is a refresh of it and has its adapter: withdraw it too.")


@app.command()
def refresh_metadata(
    folder: Folder,
    keys: Annotated[
        Path | None,
        typer.Option(help="The operator's folder of keys: sign the root and the lists anew, too."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Also what is not half over yet.")] = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Sign anew what expires; a running server does it by itself, but for what needs --keys."""
    from server.operations.folder import ServerFolder
    from server.operations.publication.publishing import refresh_metadata as refresh
    from server.operations.publication.publishing import renew_metadata

    now = datetime.now(UTC)
    if keys is not None:
        opened, held = open_folders(folder, keys, passphrase_file)
        renew_metadata(opened, held, now)
        say("Everything is signed anew.")
        return
    did = refresh(ServerFolder(folder), now, force=force)
    say("Snapshot and timestamp are signed anew." if did else "Nothing is half over yet.")
