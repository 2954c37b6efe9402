"""Where bytes of the repository come from: a web server or a folder. Nothing here is trusted.

Whoever reads from here says how much it takes and holds each byte to signed metadata.
"""

import ssl
import time
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
from tuf.api.exceptions import DownloadError, DownloadHTTPError, SlowRetrievalError
from tuf.ngclient.fetcher import FetcherInterface

from common.errors import ReleaseError

SOCKET_SECONDS: Final = 30.0  # without a byte
GRACE_SECONDS: Final = 60.0  # in which no pace is asked for
LEAST_PACE: Final = 1024  # bytes a second after that: a server that drips is not waited for
_CHUNK: Final = 1 << 16
_OK, _PARTIAL, _NOT_FOUND, _NO_SUCH_RANGE = 200, 206, 404, 416


class Transport(FetcherInterface):
    """Reads the repository's files by address, each from any of its bytes on."""

    @abstractmethod
    def read(self, url: str, offset: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield (where, bytes) of a file, from `offset` on or, where that cannot be, from 0.

        Raises:
            DownloadError: if it does not come, stops, or comes too slowly.
        """

    def _fetch(self, url: str) -> Iterator[bytes]:
        return (piece for _, piece in self.read(url))


class WebTransport(Transport):
    """Reads from a web server."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def read(self, url: str, offset: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield (where, bytes); as `Transport.read`."""
        # Bytes as they lie there: nothing is unpacked that is not verified.
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        began = time.monotonic()
        try:
            with self._client.stream("GET", url, headers=headers) as response:
                if response.status_code == _NO_SUCH_RANGE and offset:
                    offset = -1
                else:
                    at = _start(response, offset)
                    for piece in response.iter_raw():
                        yield at, piece
                        at += len(piece)
                        _check_pace(at - max(offset, 0), time.monotonic() - began)
        except httpx.TimeoutException as error:
            raise SlowRetrievalError(f"{url} does not come") from error
        except httpx.HTTPError as error:
            raise DownloadError(f"{url}: {type(error).__name__}") from error
        if offset < 0:
            yield from self.read(url)


class FolderTransport(Transport):
    """Reads from a copy of the repository in a folder."""

    def read(self, url: str, offset: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield (where, bytes); as `Transport.read`."""
        try:
            with Path(url).open("rb") as file:
                at = file.seek(offset)
                while piece := file.read(_CHUNK):
                    yield at, piece
                    at += len(piece)
        except FileNotFoundError:
            raise DownloadHTTPError(f"{url} is not there", _NOT_FOUND) from None
        except OSError as error:
            raise DownloadError(f"{url} cannot be read ({error.strerror})") from error


def web_client(authority: Path | None) -> httpx.Client:
    """Return a client that trusts the operator's authorities, or, without them, the system's."""
    if authority is None:
        trusted = ssl.create_default_context()
    else:
        trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusted.load_verify_locations(str(authority))
    return httpx.Client(verify=trusted, timeout=SOCKET_SECONDS)


def check_certificates(authorities: str) -> None:
    """Refuse a text that holds no certificate: a node that trusted it could connect nowhere.

    Raises:
        ReleaseError: if it does not.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=authorities)
    except (ssl.SSLError, ValueError) as error:
        raise ReleaseError(
            "The operator's new certificate authority is no certificate. Ask the operator.",
            field="authority",
        ) from error


def _start(response: httpx.Response, offset: int) -> int:
    """Return at which byte an answer begins."""
    if response.status_code == _PARTIAL and offset:
        told = response.headers.get("Content-Range", "")
        if told.startswith(f"bytes {offset}-"):
            return offset
        raise DownloadError("The server sends another part than was asked for")
    if response.status_code != _OK:
        raise DownloadHTTPError(f"HTTP {response.status_code}", response.status_code)
    return 0


def _check_pace(received: int, seconds: float) -> None:
    if seconds > GRACE_SECONDS and received < (seconds - GRACE_SECONDS) * LEAST_PACE:
        raise SlowRetrievalError(f"Only {received} bytes came in {seconds:.0f} seconds")
