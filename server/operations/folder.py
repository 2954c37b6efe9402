"""Where the operator's server keeps its things, and its few settings.

server.toml             hosts, port, and how long metadata holds
authority.crt           the certificate authorities that nodes trust
enrolment.pub           the public half of the key that signs invites
operator.pub            the public half of the key that signs releases
tls/server.key, .crt    the server's certificate
online/                 the keys that say which releases are the newest
nodes.json              invites, enrolled nodes, revoked keys
keys/NAME.pub           enrolled nodes' public keys, as Flower registers them
flower/                 SuperLink's database and what else Flower keeps
proxy/                  the reverse proxy's configuration
proxy/run/              what it writes: its access log, its number, temporary files
log/                    what SuperLink and the proxy print
cache/                  encodings of public text
runs/NAME/              a run's checkpoints and outcome
releases/VERSION/       signed releases
journal/journal.jsonl   the journal of all runs, and its key
certificates/NAME.crt   enrolled nodes' certificates, over their public keys
public/releases/        the repository of releases

All that lies in the last two, everybody may read. The private halves of the first three lie in the
operator's folder of keys, kept elsewhere.
"""

import ipaddress
import json
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import EnrolmentError, SettingsError
from common.files import write_atomic
from common.identity.enrolment import NAME_RULE, check_name
from common.identity.node_certificate import FOLDER as CERTIFICATES
from server.releases.lifetimes import Lifetimes
from server.run.files import JOURNAL_FILE
from server.run.oversight.run_log import LogFormat, read_format

SETTINGS_FILE = "server.toml"
DEFAULT_PORT = 8443
DEFAULT_LISTEN = "0.0.0.0"  # noqa: S104 - the proxy is what others shall reach
DEFAULT_SUPERLINK_PORT = 9092
DEFAULT_FEDERATION = "main"
MAX_PORT = 65_535
_DAYS = tuple(f"{name}_days" for name in Lifetimes.__dataclass_fields__)
_USER = re.compile(r"([a-z_][a-z0-9_-]{0,31})?")


@dataclass(frozen=True)
class ServerSettings:
    """What an operator decides.

    Attributes:
        hosts: Names and addresses by which nodes reach the server; the first goes on invites.
        port: The proxy's port, the only one that others reach.
        listen: The proxy's address on this machine.
        superlink_port: SuperLink's port on the loopback. Whoever reaches it can start runs.
        federation: The federation's name in the repository of releases.
        repository: The folder in which `public/releases` and `online` lie; empty is this server's.
        lifetimes: How long what is signed for the repository holds.
        log_format: Of a run's log, `json` or `text`.
        proxy_user: The user that the proxy runs under; empty is the one who starts the server.
    """

    hosts: tuple[str, ...]
    port: int = DEFAULT_PORT
    listen: str = DEFAULT_LISTEN
    superlink_port: int = DEFAULT_SUPERLINK_PORT
    federation: str = DEFAULT_FEDERATION
    repository: str = ""
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    log_format: LogFormat = "json"
    proxy_user: str = ""

    def __post_init__(self) -> None:
        if not self.hosts or not all(isinstance(host, str) and host for host in self.hosts):
            raise SettingsError("`hosts` must be a list of names, at least one.", field="hosts")
        _check_port("port", self.port)
        _check_port("superlink_port", self.superlink_port)
        if self.port == self.superlink_port:
            raise SettingsError(
                "`port` and `superlink_port` must differ: one is the proxy's, one SuperLink's.",
                field="superlink_port",
            )
        read_format(str(self.log_format))
        try:
            ipaddress.ip_address(str(self.listen))  # a number would be read as one, too
        except ValueError:
            raise SettingsError("`listen` must be an IP address.", field="listen") from None
        try:
            check_name(self.federation)
        except (EnrolmentError, TypeError):
            raise SettingsError(
                f"`federation` must have {NAME_RULE}.", field="federation"
            ) from None
        if not isinstance(self.repository, str):
            raise SettingsError("`repository` must be a folder's path.", field="repository")
        if not isinstance(self.proxy_user, str) or not _USER.fullmatch(self.proxy_user):
            raise SettingsError(
                "`proxy_user` must be the name of a user of this machine, or empty.",
                field="proxy_user",
            )

    @property
    def address(self) -> str:
        """Where nodes connect, `host:port`."""
        return _joined(self.hosts[0], self.port)

    @property
    def proxy_address(self) -> str:
        """Where the proxy listens, `address:port`."""
        return _joined(self.listen, self.port)

    @property
    def superlink(self) -> str:
        """Where SuperLink listens, `address:port`; never anything but the loopback."""
        return _joined("127.0.0.1", self.superlink_port)

    def to_toml(self) -> bytes:
        """Return the file's content."""
        hosts = ", ".join(f'"{host}"' for host in self.hosts)
        return (
            "# By which names and addresses nodes reach this server; the first goes on invites.\n"
            "# A change needs a new certificate: fedtail server rotate\n"
            f"hosts = [{hosts}]\n"
            "# The port of the reverse proxy, the only one that others may reach.\n"
            f"port = {self.port}\n"
            "# The address on this machine that the proxy listens on; 0.0.0.0 is every one.\n"
            f'listen = "{self.listen}"\n'
            "# SuperLink's port on the loopback. Whoever reaches it can start runs: let nobody.\n"
            f"superlink_port = {self.superlink_port}\n"
            "# The proxy's user, who can read the server's key for TLS and no other.\n"
            "# Empty: the user who starts the server, which is for trying.\n"
            f'proxy_user = "{self.proxy_user}"\n'
            "# Of a run's log: json or text.\n"
            f'log_format = "{self.log_format}"\n'
            "# This federation's name in the repository of releases.\n"
            f"federation = {json.dumps(self.federation)}\n"
            "# Where the repository's `public` and `online` lie; empty: here.\n"
            f"repository = {json.dumps(self.repository)}\n"
            "# After how many days what is signed for the repository expires. The first three are\n"
            "# signed with the operator's keys, the last two by the server itself.\n"
            + "".join(f"{name}_days = {days}\n" for name, days in vars(self.lifetimes).items())
        ).encode()


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _check_port(name: str, port: object) -> None:
    if isinstance(port, bool) or not isinstance(port, int):
        kind = type(port).__name__
        raise SettingsError(f"`{name}` must be a whole number, not {kind}.", field=name)
    if not 1 <= port <= MAX_PORT:
        raise SettingsError(f"`{name}` must lie between 1 and {MAX_PORT}.", field=name)


@dataclass(frozen=True)
class ServerFolder:
    """Paths in one operator's folder."""

    root: Path

    @property
    def settings_file(self) -> Path:
        """Hosts and port."""
        return self.root / SETTINGS_FILE

    @property
    def authority(self) -> Path:
        """Certificates, PEM, of the authorities that nodes trust; the first one issues."""
        return self.root / "authority.crt"

    @property
    def tls_key(self) -> Path:
        """The server's key."""
        return self.root / "tls" / "server.key"

    @property
    def tls_certificate(self) -> Path:
        """The server's certificate."""
        return self.root / "tls" / "server.crt"

    @property
    def enrolment_public_key(self) -> Path:
        """The public half of the key that signs invites."""
        return self.root / "enrolment.pub"

    @property
    def release_public_key(self) -> Path:
        """The public half of the key that signs releases."""
        return self.root / "operator.pub"

    @property
    def registry(self) -> Path:
        """Invites, nodes and revoked keys."""
        return self.root / "nodes.json"

    @property
    def members(self) -> Path:
        """Which merchant each of Flower's node numbers is; runs read it."""
        return self.root / "members.json"

    @property
    def node_keys(self) -> Path:
        """The public keys of enrolled nodes, one file a node, as Flower registers them."""
        return self.root / "keys"

    @property
    def flower_home(self) -> Path:
        """FLWR_HOME of SuperLink and what it starts."""
        return self.root / "flower"

    @property
    def database(self) -> Path:
        """SuperLink's database: registrations survive in it."""
        return self.flower_home / "superlink.sqlite"

    @property
    def proxy(self) -> Path:
        """The proxy's configuration."""
        return self.root / "proxy"

    @property
    def proxy_run(self) -> Path:
        """What the proxy writes."""
        return self.proxy / "run"

    @property
    def access_log(self) -> Path:
        """Who asked the proxy for what."""
        return self.proxy_run / "access.log"

    @property
    def logs(self) -> Path:
        """What SuperLink and the proxy print."""
        return self.root / "log"

    @property
    def runs(self) -> Path:
        """One folder a run."""
        return self.root / "runs"

    @property
    def cache(self) -> Path:
        """Encodings of public text."""
        return self.root / "cache"

    @property
    def journal(self) -> Path:
        """The journal of all runs."""
        return self.root / "journal" / JOURNAL_FILE

    @property
    def releases(self) -> Path:
        """Signed releases, one folder a version."""
        return self.root / "releases"

    @property
    def public(self) -> Path:
        """What the proxy shows to everybody."""
        return self._shared / "public"

    @property
    def repository(self) -> Path:
        """The repository of releases."""
        return self.public / "releases"

    @property
    def online(self) -> Path:
        """The folder of the keys that say what is the newest."""
        return self._shared / "online"

    @property
    def _shared(self) -> Path:
        return Path(self.settings().repository or self.root)

    @property
    def certificates(self) -> Path:
        """Enrolled nodes' certificates, which the proxy shows to everybody."""
        return self.root / CERTIFICATES

    def settings(self) -> ServerSettings:
        """Read the settings.

        Raises:
            SettingsError: if there are none, or one is unknown, of the wrong kind or out of bounds.
        """
        try:
            values: dict[str, Any] = tomllib.loads(self.settings_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise SettingsError(
                f"{self.root} is not a server's folder; make one with `fedtail server init`.",
                field="folder",
            ) from None
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"{self.settings_file} cannot be read: {error}.", field="server"
            ) from error
        days = {name.removesuffix("_days"): values.pop(name) for name in _DAYS if name in values}
        known = ServerSettings.__dataclass_fields__.keys() - {"lifetimes"}
        unknown = sorted(values.keys() - known)
        if unknown:
            raise SettingsError(
                f"{self.settings_file} has an unknown setting {unknown[0]!r}.", field=unknown[0]
            )
        hosts = values.pop("hosts", [])
        return ServerSettings(
            tuple(hosts) if isinstance(hosts, list) else (), **values, lifetimes=Lifetimes(**days)
        )

    def write_settings(self, settings: ServerSettings) -> None:
        """Write the settings."""
        write_atomic(self.settings_file, settings.to_toml())
