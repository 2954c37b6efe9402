"""Where the operator's server keeps its things, and its few settings.

server.toml             hosts and port
authority.key, .crt     the certificate authority
tls/server.key, .crt    the server's certificate
enrolment.key           signs invites
operator.key, .pub      sign releases
nodes.json              invites, enrolled nodes, revoked keys
keys/NAME.pub           enrolled nodes' public keys, as Flower registers them
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import SettingsError
from common.files import write_atomic

SETTINGS_FILE = "server.toml"
DEFAULT_PORT = 8443
MAX_PORT = 65_535


@dataclass(frozen=True)
class ServerSettings:
    """What an operator decides.

    Attributes:
        hosts: Names and addresses by which nodes reach the server; the first goes on invites.
        port: The proxy's port, the only one that others reach.
    """

    hosts: tuple[str, ...]
    port: int = DEFAULT_PORT

    def __post_init__(self) -> None:
        if not self.hosts or not all(isinstance(host, str) and host for host in self.hosts):
            raise SettingsError("`hosts` must be a list of names, at least one.", field="hosts")
        if isinstance(self.port, bool) or not isinstance(self.port, int):
            kind = type(self.port).__name__
            raise SettingsError(f"`port` must be a whole number, not {kind}.", field="port")
        if not 1 <= self.port <= MAX_PORT:
            raise SettingsError(f"`port` must lie between 1 and {MAX_PORT}.", field="port")

    @property
    def address(self) -> str:
        """Where nodes connect, `host:port`."""
        host = self.hosts[0]
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    def to_toml(self) -> bytes:
        """Return the file's content."""
        hosts = ", ".join(f'"{host}"' for host in self.hosts)
        return (
            "# By which names and addresses nodes reach this server; the first goes on invites.\n"
            "# A change needs a new certificate: fedtail server rotate\n"
            f"hosts = [{hosts}]\n"
            "# The port of the reverse proxy, the only one that others may reach.\n"
            f"port = {self.port}\n"
        ).encode()


@dataclass(frozen=True)
class ServerFolder:
    """Paths in one operator's folder."""

    root: Path

    @property
    def settings_file(self) -> Path:
        """Hosts and port."""
        return self.root / SETTINGS_FILE

    @property
    def authority_key(self) -> Path:
        """The certificate authority's key."""
        return self.root / "authority.key"

    @property
    def authority(self) -> Path:
        """The certificate authority's certificate."""
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
    def enrolment_key(self) -> Path:
        """The key that signs invites."""
        return self.root / "enrolment.key"

    @property
    def release_key(self) -> Path:
        """The key that signs releases."""
        return self.root / "operator.key"

    @property
    def release_public_key(self) -> Path:
        """Its public half."""
        return self.root / "operator.pub"

    @property
    def registry(self) -> Path:
        """Invites, nodes and revoked keys."""
        return self.root / "nodes.json"

    @property
    def node_keys(self) -> Path:
        """The public keys of enrolled nodes, one file a node, as Flower registers them."""
        return self.root / "keys"

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
        unknown = sorted(values.keys() - ServerSettings.__dataclass_fields__.keys())
        if unknown:
            raise SettingsError(
                f"{self.settings_file} has an unknown setting {unknown[0]!r}.", field=unknown[0]
            )
        hosts = values.pop("hosts", [])
        return ServerSettings(tuple(hosts) if isinstance(hosts, list) else (), **values)

    def write_settings(self, settings: ServerSettings) -> None:
        """Write the settings."""
        write_atomic(self.settings_file, settings.to_toml())
