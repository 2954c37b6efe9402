"""The reverse proxy before SuperLink: nginx, configured from a template.

SuperLink serves merchants, the operator and its own processes on one port, and reads whatever it
is sent before it asks who sent it. So it listens on the loopback only, and this is all that others
reach: a node shows its certificate before a byte of what it sends is read.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from common.errors import SettingsError
from common.files import write_atomic
from common.identity.node_certificate import FOLDER as CERTIFICATES
from server.operations.door.access_log import prepare_access_log
from server.operations.door.limits import ASKING_BYTES, ENVELOPE_BYTES, no_run_yet
from server.operations.door.node_certificates import node_map
from server.operations.door.ownership import give_to_proxy
from server.operations.folder import ServerFolder

# What a node asks of SuperLink, and how many bytes it may take to ask; None is what the run says.
# `register-node` and `unregister-node` are not among them: that is the operator's to do.
FLEET_PATHS: dict[str, int | None] = {
    "activate-node": ASKING_BYTES,
    "deactivate-node": ASKING_BYTES,
    "send-node-heartbeat": ASKING_BYTES,
    "pull-messages": ASKING_BYTES,
    "push-messages": ENVELOPE_BYTES,
    "get-run": ASKING_BYTES,
    "get-fab": ASKING_BYTES,
    "push-object": None,
    "pull-object": ASKING_BYTES,
    "confirm-message-received": ASKING_BYTES,
}
CONNECTIONS = 2048
CONFIG, NODES, LIMITS = "nginx.conf", "nodes.conf", "limits.conf"
_PLACES = ("/usr/sbin", "/usr/local/sbin")  # often not in the PATH of a plain user


def write_proxy_config(folder: ServerFolder) -> Path:
    """Write the proxy's configuration and return its path.

    Raises:
        SettingsError: if the folder's path has a character that nginx would read as its own, or
            the proxy's user cannot be given what it has to read.
        EnrolmentError: if the list of nodes cannot be read.
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
        loader=PackageLoader("server.operations.door"),
        undefined=StrictUndefined,
        trim_blocks=True,
        autoescape=False,  # noqa: S701 - no page for a browser; all values are checked above
        keep_trailing_newline=True,
    )
    text = environment.get_template(CONFIG).render(
        # As root nginx would give its work to a user of its own choice.
        user=settings.proxy_user or _own_name() if os.geteuid() == 0 else "",
        proxy=placed.proxy,
        run=placed.proxy_run,
        connections=CONNECTIONS,
        superlink=settings.superlink,
        listen=settings.proxy_address,
        certificate=placed.tls_certificate,
        key=placed.tls_key,
        authority=placed.authority,
        fleet_paths=FLEET_PATHS,
        public_paths={"releases": placed.repository.resolve(), CERTIFICATES: placed.certificates},
    )
    for made in (placed.proxy, placed.proxy_run, placed.repository, placed.certificates):
        made.mkdir(parents=True, exist_ok=True)
    path = placed.proxy / CONFIG
    write_atomic(path, text.encode())
    write_nodes(placed)
    if not (placed.proxy / LIMITS).exists():
        write_limit(placed, no_run_yet())
    prepare_access_log(placed)
    give_to_proxy(placed)
    return path


def write_nodes(folder: ServerFolder) -> None:
    """Write which nodes the proxy lets in: those that are enrolled now."""
    lines = "".join(f"{line}\n" for line in node_map(folder))
    write_atomic(folder.proxy / NODES, lines.encode())


def write_limit(folder: ServerFolder, most: int) -> bool:
    """Write how many bytes a piece of a reply may have; return whether that is a change."""
    path, line = folder.proxy / LIMITS, f"client_max_body_size {most};\n".encode()
    if path.exists() and path.read_bytes() == line:
        return False
    write_atomic(path, line)
    return True


def reload_proxy(folder: ServerFolder) -> str:
    """Have a running proxy read its configuration again; return what the operator has to do.

    Requests that are under way end as they began.
    """
    try:
        number = int((folder.proxy_run / "nginx.pid").read_text(encoding="ascii"))
        os.kill(number, signal.SIGHUP)
    except (OSError, ValueError) as error:
        if isinstance(error, PermissionError):
            return "Have the proxy read this: systemctl reload fedtail-proxy"
    return ""


def proxy_command(folder: ServerFolder) -> list[str]:
    """Return the command that runs the proxy in the foreground."""
    placed = ServerFolder(folder.root.resolve())
    run, config = placed.proxy_run, placed.proxy / CONFIG
    return [_nginx(), "-e", "stderr", "-p", str(run), "-c", str(config)]


def proxy_listens(folder: ServerFolder) -> bool:
    """Return whether nodes can connect: nginx listens only a while after it is started."""
    settings = folder.settings()
    try:  # the address for all addresses is the loopback's to whoever connects to it
        with socket.create_connection((settings.listen, settings.port), timeout=5.0):
            return True
    except OSError:
        return False


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


def _own_name() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


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
