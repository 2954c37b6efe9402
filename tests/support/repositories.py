"""An operator with releases to publish, and a static web server that an attacker may bend."""

import contextlib
import http.server
import re
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from client.deployment.release_download import fetch_release
from common.release.build import build_release
from server.operations.folder import ServerSettings
from server.operations.publication.publishing import list_release, open_repository, refresh_metadata
from tests.common.release.test_manifest import FILES, claims
from tests.support.doors import keys_of, node_of, set_up


def now():
    return datetime.now(UTC)


class Operator:
    """A server's folder with its keys, and small releases that verify."""

    def __init__(self, root, at=None, **settings):
        self.server = set_up(root, ServerSettings(("127.0.0.1",), **settings), at or now())

    @classmethod
    def of(cls, server):
        """The operator of a server that is there."""
        made = cls.__new__(cls)
        made.server = server
        return made

    @property
    def keys(self):
        return keys_of(self.server.root, self.server.settings().federation)

    @property
    def place(self):
        return self.server.repository

    def build(self, version, says=None, key=None, **files):
        """Sign a release in the operator's folder; it may say that it is another version."""
        content = {**FILES, "notes.txt": f"release {version}".encode() * 50, **files}
        key = key or self.keys.load("release")
        place = self.server.releases / version
        build_release(place, content, claims(version=says or version), key)
        return place

    def publish(self, version, at=None, **options):
        """Sign a release and have merchants use it."""
        self.build(version, **options)
        list_release(self.server, self.keys.load("release"), version, at or now())

    def refresh(self, at=None):
        refresh_metadata(self.server, at or now(), force=True)

    def repository(self):
        return open_repository(self.server, now())

    def node(self, folder, name="shop-a", **options):
        return node_of(self.server, folder, name, **options)


@dataclass
class Bent:
    """What the server does with one path, by a part of it, instead of what lies there.

    Attributes:
        content: Sent instead.
        cut: The connection breaks after so many bytes.
        endless: Bytes come until the reader goes.
        status: Answered instead.
    """

    content: bytes | None = None
    cut: int | None = None
    endless: bool = False
    status: int | None = None


@dataclass
class StaticServer:
    """A static web server on the loopback.

    Attributes:
        port: Where.
        bent: By a pattern of the path: what is not as it lies there.
        asked: Each request's path, with its range.
    """

    port: int
    bent: dict[str, Bent] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    folder: Path | None = None

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}"

    def fetch(self, node, **options):
        return fetch_release(node, self.address, **options)

    def told(self, node, **options):
        """What a fetch says, line by line."""
        lines = []
        fetch_release(node, self.address, say=lines.append, **options)
        return lines


@contextlib.contextmanager
def static_server(folder, ranges=True):
    """Serve a folder; what the served object's `folder` is set to takes its place."""
    served = StaticServer(0, folder=folder)

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            """Say nothing."""

        def do_GET(self):
            wanted = self.headers.get("Range") if ranges else None
            served.asked.append(f"{self.path} {wanted}" if wanted else self.path)
            bent = next((b for p, b in served.bent.items() if re.search(p, self.path)), Bent())
            path = served.folder / self.path.lstrip("/")
            if bent.status or (bent.content is None and not bent.endless and not path.is_file()):
                self.send_error(bent.status or 404)
                return
            content = path.read_bytes() if bent.content is None and not bent.endless else b""
            content = content if bent.content is None else bent.content
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            if start >= len(content) and wanted:
                self.send_error(416)
                return
            self.send_response(206 if wanted else 200)
            if wanted:
                told = f"bytes {start}-{len(content) - 1}/{len(content)}"
                self.send_header("Content-Range", told)
            if not bent.endless:
                self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            with contextlib.suppress(OSError):
                if bent.endless:
                    while True:
                        self.wfile.write(b" " * 65_536)
                self.wfile.write(content[start : bent.cut])
                if bent.cut is not None:
                    self.close_connection = True

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
