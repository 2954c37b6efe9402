"""Set a merchant's node up: its key, whom it trusts, where its shop lies, what it allows.

    node.toml        server, name, folders
    node.key         the node's private key; it never leaves this folder
    node.new.key     the key that a rotation asked for, until it is taken into use
    node.pem         that key and the certificate over it, which the node shows to the server
    authority.crt    the certificate authorities whose server the node talks to
    operator.pub     the key that the operator signs releases with now
    root.json        the root of trust of the repository of releases
    metadata/        what the node has seen of that repository; without it, old may pass for new
    releases/        releases that were fetched and verified
    current          a link to the one in use
    enrol.json       the request that goes to the operator
    flower/          what Flower keeps, and the number that the server gave this node
    log/             what the node prints; nothing of a shopper is in it

The policy goes where the node reads it: `policy.toml` in the shop's folder, unless one is there.
"""

import ipaddress
import json
import tomllib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from common.encoder.device import check_device
from common.errors import EnrolmentError, SettingsError
from common.files import PRIVATE_MODE, write_atomic
from common.identity.enrolment import (
    Invite,
    check_name,
    make_folder,
    make_request,
    make_rotation,
)
from common.identity.node_key import NodeKey

DEFAULT_ADDRESS = "127.0.0.1:9094"
DEFAULT_FEDERATION = "main"
_POLICY = b"""\
# The least privacy this merchant's node accepts. Whatever the operator asks for, the node refuses
# a run that goes below; what is left out has the default shown.

# Ceiling over everything ever charged to the ledger, by a Renyi filter (10 to 15% above PLD).
max_epsilon = 8.0
# Ceiling of one run's epsilon (PLD) at `delta`.
max_run_epsilon = 8.0
delta = 1e-5
# The least noise of a training step.
min_noise_multiplier = 0.3
# Where noise may be added. local: by this node, to all that leaves it, and nobody else is trusted.
# distributed: each merchant adds a share, and nobody sees more than the sum over all of them: less
# noise at the same epsilon, if enough of the others are no helpers of the operator.
dp_models = ["local", "distributed"]
# distributed: the least part of the merchants that may be missing, or with the operator.
min_spared_share = 0.3333333333333333
# The fewest merchants a run may start with.
min_cohort = 1
# Numbers that may leave beside an update.
metrics = ["delta", "epsilon"]
# Over how many days on end the ceiling holds; 0: for life.
budget_days = 0
# SHA-256 of each app bundle that may run here beside that of the fedtail installed here, as
# `sha256sum` prints it.
app_digests = []
"""


@dataclass(frozen=True)
class NodeFolder:
    """Paths in one merchant's folder."""

    root: Path

    @property
    def settings_file(self) -> Path:
        """Server, name and folders."""
        return self.root / "node.toml"

    @property
    def key(self) -> Path:
        """The private key."""
        return self.root / "node.key"

    @property
    def new_key(self) -> Path:
        """The key a rotation asked for."""
        return self.root / "node.new.key"

    @property
    def tls(self) -> Path:
        """The key and the certificate over it, as TLS reads them."""
        return self.root / "node.pem"

    @property
    def authority(self) -> Path:
        """Certificates, PEM: one of them must have signed the server's."""
        return self.root / "authority.crt"

    @property
    def release_key(self) -> Path:
        """The operator's public key."""
        return self.root / "operator.pub"

    @property
    def trusted_root(self) -> Path:
        """The root metadata that came with the invite."""
        return self.root / "root.json"

    @property
    def metadata(self) -> Path:
        """What the node has seen of the repository of releases."""
        return self.root / "metadata"

    @property
    def current(self) -> Path:
        """A link to the release in use: `release`, and `operator.pub` that it verifies with."""
        return self.root / "current"

    @property
    def request(self) -> Path:
        """The request that goes to the operator."""
        return self.root / "enrol.json"

    @property
    def flower_home(self) -> Path:
        """FLWR_HOME of the SuperNode and what it starts."""
        return self.root / "flower"

    @property
    def node_id(self) -> Path:
        """The number that the server gave this node."""
        return self.flower_home / "node-id"

    @property
    def logs(self) -> Path:
        """What the node prints."""
        return self.root / "log"

    @property
    def releases(self) -> Path:
        """Releases that were fetched and verified, one folder a version."""
        return self.root / "releases"

    def config(self) -> "NodeConfig":
        """Read the settings.

        Raises:
            SettingsError: if there are none, or one is unknown, of the wrong kind or out of bounds.
        """
        return read_config(self)


@dataclass(frozen=True)
class NodeConfig:
    """What a merchant decides.

    Attributes:
        server: Where to connect, `host:port`.
        merchant: The name in the federation, public.
        data: The shop's folder, as `client import` made it; the policy is in it.
        state: The folder of the ledger and of encodings; empty is `node` in the shop's folder.
        address: Where the node answers /health, on this machine only.
        federation: The federation's name in the repository of releases.
        releases: Where that repository is: an address, http or https, or a folder; empty is
            the server.
        device: Where the node encodes and trains: auto, cpu, cuda, cuda:N or mps; empty is cpu.
    """

    server: str
    merchant: str
    data: Path
    state: str = ""
    address: str = DEFAULT_ADDRESS
    federation: str = DEFAULT_FEDERATION
    releases: str = ""
    device: str = ""

    def __post_init__(self) -> None:
        if self.device:
            check_device(self.device)
        for name, value in (("server", self.server), ("address", self.address)):
            host, _, port = value.rpartition(":")
            if not host or not port.isdecimal() or not 1 <= int(port) <= 65_535:
                raise SettingsError(f"`{name}` must be host:port.", field=name)
        host = self.address.rpartition(":")[0]
        if not _is_loopback(host):
            # Whoever reaches the SuperNode's port can take its tasks: it asks nobody who they are.
            raise SettingsError(
                "`address` must be an address of this machine's loopback, such as 127.0.0.1:9094.",
                field="address",
            )
        try:
            check_name(self.federation)
        except EnrolmentError as error:
            raise SettingsError(f"`federation`: {error}", field="federation") from None

    @property
    def state_folder(self) -> Path:
        """Where the ledger lies."""
        return Path(self.state) if self.state else self.data / "node"

    def to_toml(self) -> bytes:
        """Return the file's content."""
        return (
            f"server = {_quoted(self.server)}\n"
            "# The name the operator invited, public.\n"
            f"merchant = {_quoted(self.merchant)}\n"
            "# The shop's folder, as `fedtail client import` made it.\n"
            f"data = {_quoted(str(self.data))}\n"
            "# The folder of the privacy ledger and of encodings; empty: `node` in the shop's.\n"
            f"state = {_quoted(self.state)}\n"
            "# Where the node answers /health, on this machine only; each node its own port.\n"
            f"address = {_quoted(self.address)}\n"
            "# The federation's name in the repository of releases.\n"
            f"federation = {_quoted(self.federation)}\n"
            "# Where that repository is: an address or a folder; empty: the server.\n"
            f"releases = {_quoted(self.releases)}\n"
            "# Where the node encodes and trains: auto, cpu, cuda, cuda:N or mps; empty: cpu.\n"
            f"device = {_quoted(self.device)}\n"
        ).encode()


def read_config(folder: NodeFolder) -> NodeConfig:
    """Read `node.toml`; see `NodeFolder.config`."""
    path = folder.settings_file
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(
            f"{folder.root} is not a node's folder; make one with `fedtail client init`.",
            field="folder",
        ) from None
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read: {error}.", field="node") from error
    unknown = sorted(values.keys() - NodeConfig.__dataclass_fields__.keys())
    if unknown:
        raise SettingsError(f"{path} has an unknown setting {unknown[0]!r}.", field=unknown[0])
    for name in ("server", "merchant", "data"):
        if not values.get(name):
            raise SettingsError(f"{path}: `{name}` must be text.", field=name)
    for name, value in values.items():
        if not isinstance(value, str):
            raise SettingsError(f"{path}: `{name}` must be text.", field=name)
    return NodeConfig(**{**values, "data": Path(values["data"])})


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _quoted(text: str) -> str:
    """Return text as a TOML string; what JSON escapes, TOML escapes alike."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def init_node(
    root: Path, invite: Invite, shop: Path, now: datetime, *, address: str = DEFAULT_ADDRESS
) -> NodeFolder:
    """Make a node's folder from an invite, with the request that goes back to the operator.

    `node.toml` is written last, so a folder that was cut short is not taken for a node's.

    Raises:
        EnrolmentError: if the invite is altered or too old, or the folder holds anything.
        SettingsError: if there is no shop, or `address` is not on the loopback.
    """
    invite.check(now)
    config = NodeConfig(
        invite.server, invite.name, shop.resolve(), address=address, federation=invite.federation
    )
    if not shop.is_dir():
        raise SettingsError(
            f"{shop} is not a folder; name the one that `fedtail client import` made.", field="shop"
        )
    make_folder(root, "node")
    folder = NodeFolder(root)
    key = NodeKey.generate()
    key.save(folder.key)
    write_atomic(folder.authority, invite.authority.encode("ascii"))
    write_atomic(folder.release_key, invite.release_key.encode("ascii"))
    write_atomic(folder.trusted_root, invite.root.encode())
    from client.privacy.policy import POLICY_FILE  # noqa: PLC0415 - its accountants stay out of the node's memory

    if not (shop / POLICY_FILE).exists():
        write_atomic(shop / POLICY_FILE, _POLICY)
    write_atomic(folder.request, make_request(invite, key, now).to_bytes(), mode=PRIVATE_MODE)
    write_atomic(folder.settings_file, config.to_toml())
    return folder


def request_rotation(folder: NodeFolder, now: datetime) -> Path:
    """Make a new key and the request, signed with both keys, that goes to the operator.

    The node keeps using the old key until `finish_rotation`. Asked for twice, the request is for
    the same new key.
    """
    if folder.new_key.exists():
        new = NodeKey.load(folder.new_key)
    else:
        new = NodeKey.generate()
        new.save(folder.new_key)
    request = make_rotation(folder.config().merchant, NodeKey.load(folder.key), new, now)
    write_atomic(folder.request, request.to_bytes(), mode=PRIVATE_MODE)
    return folder.request


def finish_rotation(folder: NodeFolder) -> None:
    """Take the new key into use, once the operator has enrolled it.

    Raises:
        EnrolmentError: if no new key was asked for.
    """
    if not folder.new_key.exists():
        raise EnrolmentError(
            "There is no new key; ask for one with `fedtail client rotate` first.", field="node_key"
        )
    NodeKey.load(folder.new_key)  # never put a broken file in a good one's place
    folder.new_key.replace(folder.key)
