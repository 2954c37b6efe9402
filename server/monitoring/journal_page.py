"""The operator's page: the journal's view as plain HTML, served on the loopback and nowhere else.

No script, no picture, nothing from another place. It is read-only, and each request reads the
journal anew.
"""

import http.server
import ipaddress
import socket
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from common.errors import FedtailError, SettingsError
from common.pages import page_environment
from server.monitoring.journal_view import JournalView, read_view
from server.monitoring.metrics import CONTENT_TYPE, metrics_page

TEMPLATE = "journal.html.j2"
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def render_page(view: JournalView, title: str) -> str:
    """Return the page; whatever a node named itself is escaped."""
    environment = page_environment(__file__)
    environment.filters["size"] = in_kilobytes
    return environment.get_template(TEMPLATE).render(view=view, title=title)


def in_kilobytes(count: int | None) -> str:
    """Return a number of bytes as people read it; empty where it is not known."""
    if count is None:
        return ""
    return f"{count / 1000:,.1f} kB" if count < 1_000_000 else f"{count / 1_000_000:,.1f} MB"


class _Ipv6Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6


def page_server(folder: Path, host: str, port: int) -> http.server.ThreadingHTTPServer:
    """Return a server of the page of `folder`, bound and not yet serving.

    Args:
        folder: A server's, or a run's.
        host: An address of the loopback.
        port: 0 lets the system choose.

    Raises:
        SettingsError: if the address is not on the loopback, or is in use.
    """
    check_loopback(host)
    kind = _Ipv6Server if ":" in host else http.server.ThreadingHTTPServer
    try:
        return kind((host, port), _handler(folder))
    except OSError as error:
        raise SettingsError(
            f"{host}:{port} cannot be listened on: {error.strerror}.", field="port"
        ) from error


def check_loopback(host: str) -> None:
    """Refuse an address that others can reach: the page asks nobody who they are.

    Raises:
        SettingsError: if `host` is not an address of the loopback.
    """
    try:
        own = ipaddress.ip_address(host).is_loopback
    except ValueError:
        own = False
    if not own:
        raise SettingsError(
            f"`host` is {host!r}; it must be an address of this machine's loopback, such as "
            "127.0.0.1. To read the page from elsewhere, tunnel to it: ssh -L.",
            field="host",
        )


def _handler(folder: Path) -> type[http.server.BaseHTTPRequestHandler]:
    answers: dict[str, tuple[str, Callable[[], str]]] = {
        "/": (
            "text/html; charset=utf-8",
            lambda: render_page(read_view(folder), folder.resolve().name),
        ),
        "/journal.json": ("application/json", lambda: read_view(folder).to_json()),
        "/metrics": (CONTENT_TYPE, lambda: metrics_page(folder).decode()),
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        server_version, sys_version = "fedtail", ""

        def do_GET(self) -> None:
            # A name of somebody else's that leads here would let their page read this one.
            if not _is_own(self.headers.get("Host", "")):
                self._send(HTTPStatus.FORBIDDEN, "text/plain", "Ask for it by 127.0.0.1.\n")
            elif self.path not in answers:
                self._send(
                    HTTPStatus.NOT_FOUND, "text/plain", "There is /, /journal.json and /metrics.\n"
                )
            else:
                kind, written = answers[self.path]
                try:
                    self._send(HTTPStatus.OK, kind, written())
                except FedtailError as error:
                    text = f"The journal cannot be shown. {error}\n"
                    self._send(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", text)

        do_HEAD = do_GET  # noqa: N815 - the standard library calls methods by these names

        def _send(self, status: HTTPStatus, kind: str, text: str) -> None:
            content = text.encode()
            self.send_response(status)
            for name, value in {**_HEADERS, "Content-Type": kind}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Log nothing: only this machine's users ask."""

    return Handler


def _is_own(host: str) -> bool:
    name = host.rsplit(":", 1)[0] if host.rsplit(":", 1)[-1].isdecimal() else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
