"""`fedtail server proxy`, `check` and `renew`: what stands between nodes and SuperLink."""

from datetime import UTC, datetime

import typer
from rich.console import Console

from server.operations.cli import Folder, Keys, PassphraseFile, open_folders, say

app = typer.Typer()


@app.command()
def proxy(folder: Folder) -> None:
    """Be the proxy, under its own user, beside `start --no-proxy` under the server's."""
    import os

    from server.operations.door.proxy import proxy_command
    from server.operations.folder import ServerFolder

    command = proxy_command(ServerFolder(folder))
    os.umask(0o027)
    os.execv(command[0], command)  # noqa: S606 - our own command, no shell


@app.command()
def check(folder: Folder) -> None:
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
    say(f"{folder}: keys are their owner's alone, and the proxy's configuration is good.")


@app.command()
def renew(folder: Folder, keys: Keys, passphrase_file: PassphraseFile = None) -> None:
    """Sign anew the certificates of nodes that end within two months; the nodes fetch them."""
    from server.operations.door.node_certificates import sign_certificates

    opened, held = open_folders(folder, keys, passphrase_file)
    names = sign_certificates(opened, held, datetime.now(UTC))
    say(f"Signed for: {', '.join(names)}." if names else "No certificate is due.")
