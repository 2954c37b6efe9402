"""A browser without a screen: it keeps cookies and sends forms to the page of a made-up shop."""

import asyncio
import re
import threading
import time
from contextlib import contextmanager

import httpx
import uvicorn

from client.recommending.model_history import keep_shop_model
from client.serving.page.app import add_page
from client.serving.page.parts import PageFolders
from tests.support.served import Counter, made_model
from tests.support.serving_process import free_port


class PageCounter(Counter):
    """A service with the page."""

    def __init__(self, folder, model=None, **more):
        super().__init__(folder, model)
        self.release = folder / "release"
        self.release.mkdir(exist_ok=True)
        self.keep(model or made_model())
        folders = PageFolders(folder, folder / "model")
        self.sessions = add_page(self.app, self.service, self.keys, folders, **more)

    def keep(self, model):
        """Fit: the model serves from now on."""
        digest = keep_shop_model(model, self.folder / "model", self.release)
        self.live.refresh()
        return digest


class Visitor:
    """One browser."""

    def __init__(self, counter, *, language="en", signed_in=True):
        self.counter, self.cookies, self.language = counter, httpx.Cookies(), language
        if signed_in:
            answer = self.get(f"/page/enter?ticket={counter.sessions.ticket()}")
            assert answer.status_code == 303

    def ask(self, method, path, *, fragment=False, headers=None, **more):
        """Send one request; redirects are not followed."""

        async def send():
            transport = httpx.ASGITransport(app=self.counter.app, raise_app_exceptions=False)
            client = httpx.AsyncClient(
                transport=transport, base_url="http://127.0.0.1:8080", cookies=self.cookies
            )
            async with client:
                usual = {"Accept-Language": self.language}
                usual |= {"HX-Request": "true", "HX-Target": "result"} if fragment else {}
                answer = await client.request(method, path, headers=usual | (headers or {}), **more)
                self.cookies = client.cookies
                return answer

        return asyncio.run(send())

    def get(self, path, **more):
        """Look at a page."""
        return self.ask("GET", path, **more)

    def post(self, path, form, *, csrf=None, **more):
        """Send a form as the page would, with its secret."""
        secret = self.csrf() if csrf is None else csrf
        return self.ask("POST", path, data={"csrf": secret, **form}, **more)

    def csrf(self):
        """The secret that stands in the forms of this session."""
        found = re.search(r'name="csrf" value="([^"]+)"', self.get("/page/models").text)
        return found[1] if found else ""


@contextmanager
def listening(counter):
    """The service behind a real uvicorn on a free port; gives the page's address."""
    port = free_port()
    config = uvicorn.Config(counter.app, port=port, ws="none", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}/page"
    server.should_exit = True
    thread.join()
