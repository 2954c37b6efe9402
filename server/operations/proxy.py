"""The reverse proxy before SuperLink: nginx, configured from a template.

SuperLink serves merchants, the operator and its own processes on one port and asks nobody on it for
credentials except nodes. So it listens on the loopback only, and this is all that others reach.
"""

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from common.errors import SettingsError
from common.files import write_atomic
from server.operations.folder import ServerFolder

# What a node asks of SuperLink. `register-node` and `unregister-node` are not among them: that is
# the operator's to do.
FLEET_PATHS = (
    "activate-node",
    "deactivate-node",
    "send-node-heartbeat",
    "pull-messages",
    "push-messages",
    "get-run",
    "get-fab",
    "push-object",
    "pull-object",
    "confirm-message-received",
)
CONFIG = "nginx.conf"
_PLACES = ("/usr/sbin", "/usr/local/sbin")  # often not in the PATH of a plain user


def write_proxy_config(folder: ServerFolder) -> Path:
    """Write the proxy's configuration and return its path.

    Raises:
        SettingsError: if the folder's path has a character that nginx would read as its own.
    """
    root = folder.root.resolve()
    if any(character in str(root) for character in '"$\\\n'):
        raise SettingsError(
            "The server's folder must have no quote, dollar sign or backslash in its path: nginx "
            "reads them as its own.",
            field="folder",
        )
    placed, settings = ServerFolder(root), folder.settings()
    environment = Environment(
        loader=PackageLoader("server.operations"),
        undefined=StrictUndefined,
        trim_blocks=True,
        autoescape=False,  # noqa: S701 - no page for a browser; all values are checked above
        keep_trailing_newline=True,
    )
    text = environment.get_template(CONFIG).render(
        # As root nginx would give its work to another user, who cannot read this folder.
        user=pwd.getpwuid(os.geteuid()).pw_name if os.geteuid() == 0 else "",
        proxy=placed.proxy,
        logs=placed.logs,
        public=placed.public,
        superlink=settings.superlink,
        listen=settings.proxy_address,
        certificate=placed.tls_certificate,
        key=placed.tls_key,
        authority=placed.authority,
        fleet_paths=FLEET_PATHS,
    )
    for made in (placed.proxy, placed.logs, placed.repository):
        made.mkdir(parents=True, exist_ok=True)
    path = placed.proxy / CONFIG
    write_atomic(path, text.encode())
    return path


def proxy_command(folder: ServerFolder) -> list[str]:
    """Return the command that runs the proxy in the foreground."""
    root = folder.root.resolve()
    config = ServerFolder(root).proxy / CONFIG
    return [_nginx(), "-e", "stderr", "-p", str(root), "-c", str(config)]


def check_proxy(folder: ServerFolder) -> None:
    """Have nginx read its configuration.

    Raises:
        SettingsError: if nginx is not installed or refuses it.
    """
    done = subprocess.run(  # noqa: S603 - our own command, no shell
        [*proxy_command(folder), "-t", "-q"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SettingsError(
            f"nginx refuses its configuration: {done.stderr.strip()}", field="proxy"
        )


def _nginx() -> str:
    found = shutil.which("nginx") or next(
        (place for folder in _PLACES if (place := shutil.which("nginx", path=folder))), None
    )
    if found is None:
        raise SettingsError(
            "nginx is not installed (Debian: apt-get install nginx-light). With another reverse "
            "proxy start with --no-proxy and let it through to the same paths.",
            field="proxy",
        )
    return found
