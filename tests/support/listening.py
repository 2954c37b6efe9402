"""A service of a test behind a real uvicorn on the loopback, and doors that are no service."""

import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import uvicorn

from tests.support.serving_process import free_port


@contextlib.contextmanager
def listening(app):
    """Serve an ASGI app; its address."""
    port = free_port()
    config = uvicorn.Config(app, port=port, ws="none", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@contextlib.contextmanager
def answering(*answers):
    """A server that gives these answers in turn: (status, headers, body), or None to hang up.

    Yields its address and the list of requests that came: (method, path, headers, body).
    """
    left, came = list(answers), []

    class Door(BaseHTTPRequestHandler):
        def log_message(self, *_):
            """Say nothing."""

        def answer(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            came.append((self.command, self.path, dict(self.headers), body))
            given = left.pop(0)
            if given is None:
                self.close_connection = True
                return
            status, headers, content = given
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 -- http.server's names

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", came
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
