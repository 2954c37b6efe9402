"""Run the service: uvicorn, the worker beside it, and a look for new models."""

import contextlib
import ipaddress
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from client.recommending.model_history import release_of
from client.recommending.shop_model import ModelSource
from client.serving.feedback.store import Store
from client.serving.http.connections import Address, listen
from client.serving.http.context import Service
from client.serving.http.gate import PAGE, USUAL_RATE, Rate
from client.serving.http.service import create_app
from client.serving.keys import Keys
from client.serving.live_shop import LiveShop, watch
from client.serving.page.app import add_page
from client.serving.page.parts import PageFolders
from client.serving.worker import Worker
from common.errors import FedtailError, InputError, ReleaseError
from common.identity.signing_key import PublicKey
from common.release.verify import verify_release

_LOOK_SECONDS = 2.0
_FIGURES_SECONDS = 60.0  # how often an experiment's figures are looked at
_LOG = logging.getLogger("fedtail.serving")


@dataclass(frozen=True)
class Serving:
    """Where a service finds its things, and where it listens.

    Attributes:
        release: The release's folder; it may be a link that is switched.
        key: The operator's public key.
        shop: The shop's folder.
        model: The shop model's folder.
        store: SQLAlchemy's address of the events.
        keys: The file of keys.
        cache: Folder of encodings.
        host: An address of this machine.
        port: Its port.
        certificate: PEM file for TLS; needed with `private_key` where `host` is no loopback.
        private_key: PEM file.
        rate: Of each key.
        ready: Given an address that lets one browser into the page, once; None: nobody asks.
        arm_releases: Folders of further releases, whose models may be arms of an experiment.
    """

    release: Path
    key: Path
    shop: Path
    model: Path
    store: str
    keys: Path
    cache: Path
    host: str = "127.0.0.1"
    port: int = 8080
    certificate: Path | None = None
    private_key: Path | None = None
    rate: Rate = USUAL_RATE
    ready: Callable[[str], None] | None = None
    arm_releases: tuple[Path, ...] = ()

    @property
    def address(self) -> Address:
        """Where it listens."""
        return Address(self.host, self.port, self.certificate, self.private_key)


def run_service(serving: Serving, tell: Callable[[str], None]) -> None:
    """Serve until the process is told to stop; requests in flight are answered first.

    Raises:
        InputError: if it would listen beyond this machine without TLS, or a file is not there.
        ReleaseError: if the release is not verified, or the model is of another one.
        StorageError: if the events cannot be kept.
    """
    _check_address(serving)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    with opened(serving, tell) as service:
        keys = Keys(serving.keys)
        app = create_app(service, keys, serving.rate)
        sessions = add_page(app, service, keys, PageFolders(serving.shop, serving.model))
        scheme = "https" if serving.certificate else "http"
        source = service.live.snapshot.source
        host = f"[{serving.host}]" if ":" in serving.host else serving.host
        address = f"{scheme}://{host}:{serving.port}"
        tell(f"Release {source.release} on {address}/v1")
        tell(f"The page: {address}{PAGE}/")
        if serving.ready is not None:
            serving.ready(f"{address}{PAGE}/enter?ticket={sessions.ticket()}")
        listen(app, serving.address)


@contextlib.contextmanager
def opened(serving: Serving, tell: Callable[[str], None]) -> Iterator[Service]:
    """Give a service that looks for new models until the end.

    Raises:
        FedtailError: as `run_service`.
    """

    def accepts(source: ModelSource) -> None:
        release_of(source, serving.model, serving.release, PublicKey.load(serving.key))

    def accepts_beside(source: ModelSource) -> None:
        _check_release(source, (serving.release, *serving.arm_releases), serving.key)

    store = Store(serving.store)
    stop = threading.Event()
    worker = worker_of(serving)
    try:
        service = Service(LiveShop(serving.model, store, accepts, accepts_beside), store, worker)

        def told(line: str) -> None:
            tell(line)
            _place(service, tell)

        looking = threading.Thread(
            target=watch, args=(service.live, stop, _LOOK_SECONDS, told), daemon=True
        )
        looking.start()
        threading.Thread(target=_place, args=(service, tell), daemon=True).start()
        threading.Thread(target=_look, args=(service, stop), daemon=True).start()
        yield service
        stop.set()
        looking.join(_LOOK_SECONDS)
    finally:
        stop.set()
        worker.close()
        store.close()


def worker_of(serving: Serving) -> Worker:
    """Return the worker of a service."""
    return Worker(serving.release, serving.key, serving.shop, serving.cache, serving.model)


def _check_release(source: ModelSource, releases: Sequence[Path], key: Path) -> None:
    """Refuse a model that was made with none of `releases`, all of which must verify."""
    known = PublicKey.load(key)
    digests = {verify_release(one, known).manifest.digest for one in releases}
    if source.release_digest not in digests:
        raise ReleaseError(
            f"The shop model is of release {source.release} and another digest than "
            f"{' and '.join(one.name for one in releases)}; run `fedtail client fit` with this "
            "release.",
            field="model",
        )


def _look(service: Service, stop: threading.Event) -> None:
    """Look at the figures every so often until `stop` is set."""
    while not stop.wait(_FIGURES_SECONDS):
        try:
            for line in service.look():
                _LOG.warning(line)
        except FedtailError as error:
            _LOG.warning("the figures were not looked at: %s", error)


def _place(service: Service, tell: Callable[[str], None]) -> None:
    try:
        if placed := service.place_waiting():
            tell(f"{placed} new item(s) read by this release")
    except FedtailError as error:
        tell(f"new items wait: {error}")


def _check_address(serving: Serving) -> None:
    try:
        local = ipaddress.ip_address(serving.host).is_loopback
    except ValueError:
        local = serving.host == "localhost"
    if not local and not (serving.certificate and serving.private_key):
        raise InputError(
            f"{serving.host} is reached from other machines: give --certificate and --private-key, "
            "or listen on 127.0.0.1 behind a proxy that has them.",
            field="host",
        )
