"""A typed client of the service, for a shop's server.

    with ShopClient("http://127.0.0.1:8080", key) as service:
        found = service.recommend(history=["item-3"])
        service.send_events([Event("impression", one.item_id, found.recommendation_id)
                             for one in found.items])

A page must still work while the service does not: catch `ServiceError` and show no list.
"""

import ipaddress
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from client.api.errors import ProblemError, ServiceUnavailableError
from client.api.messages import Event, EventsAnswer, ListOptions, Recommendations

TIMEOUT = 2.0  # seconds: a page waits for it
MOST_EVENTS = 1000  # of one request
_TRIES = 3
_FIRST_WAIT = 0.2  # seconds, doubled after each try
_LONGEST_WAIT = 5.0
_TRY_AGAIN = {429, 502, 503, 504}
_IDEMPOTENT = {"GET", "PUT", "DELETE"}
_USUAL = ListOptions()


class ShopClient:
    """Calls the service with one key, over connections that are kept. Threads may share it.

    What has no effect twice is tried up to three times: events (by their `event_id`), stock, items
    put whole, deletions. A list is asked for once, as a page should not wait; where no connection
    came about at all, anything is tried again.

    Args:
        address: Such as `http://127.0.0.1:8080`, or `https://` and a host.
        key: From `fedtail client keys new`. Keep it on the server: never in a page.
        timeout: Seconds for each of connecting, sending and receiving.
        verify: How the service's certificate is checked, if a shop has an authority of its own.

    Raises:
        ValueError: if the address has no host, or would send the key unencrypted over a network.
    """

    def __init__(
        self,
        address: str,
        key: str,
        *,
        timeout: float = TIMEOUT,
        verify: ssl.SSLContext | bool = True,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        _check(address)
        self._sleep = sleep
        self._http = httpx.Client(
            base_url=address.rstrip("/"),
            headers={"Authorization": f"Bearer {key}"},
            timeout=timeout,
            verify=verify,
            trust_env=False,  # a proxy of the environment would see the key
        )

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    # ---------------------------------------------------------------- lists
    def recommend(
        self,
        *,
        shopper_id: str | None = None,
        history: Sequence[str] | None = None,
        options: ListOptions = _USUAL,
    ) -> Recommendations:
        """Return the best items for a shopper of the import, a history of items, or nobody.

        Args:
            shopper_id: Of the import. Give this or `history`, or neither.
            history: Item ids, the latest last.
            options: How many, where, by which rules.

        Raises:
            ProblemError: if the service refuses it.
            ServiceUnavailableError: if no answer comes.
        """
        body = options.body()
        if shopper_id is not None:
            body["shopper_id"] = shopper_id
        if history is not None:
            body["history"] = [{"item_id": item_id} for item_id in history]
        return Recommendations.from_json(self._ask("POST", "/v1/recommendations", body))

    def similar(self, item_id: str, options: ListOptions = _USUAL) -> Recommendations:
        """Return what goes with one item.

        Raises:
            ProblemError: if the service refuses it; 404 if the shop has no such item.
            ServiceUnavailableError: if no answer comes.
        """
        found = self._ask("POST", f"/v1/items/{_escaped(item_id)}/similar", options.body())
        return Recommendations.from_json(found)

    def more(self, recommendation_id: str, count: int = 10) -> Recommendations:
        """Return what comes after a list.

        Raises:
            ProblemError: if the service refuses it; 404 if there is no such list.
            ServiceUnavailableError: if no answer comes.
        """
        path = f"/v1/recommendations/{_escaped(recommendation_id)}/next"
        return Recommendations.from_json(self._ask("POST", path, {"count": count}))

    # ---------------------------------------------------------------- events
    def send_events(self, events: Sequence[Event]) -> EventsAnswer:
        """Send events; when this returns, what was accepted is on the service's disk, once.

        More than 1,000 go in several requests. If one of these fails, send all again: what was
        kept counts as a duplicate then.

        Raises:
            ProblemError: if the service refuses a request as a whole.
            ServiceUnavailableError: if no answer comes.
            ValueError: if an event's time has no time zone; nothing is sent then.
        """
        bodies = [event.body() for event in events]
        accepted, duplicates = 0, 0
        rejected: dict[int, str] = {}
        for start in range(0, len(bodies), MOST_EVENTS):
            batch = {"events": bodies[start : start + MOST_EVENTS]}
            answer = EventsAnswer.from_json(self._ask("POST", "/v1/events", batch, again=True))
            accepted += answer.accepted
            duplicates += answer.duplicates
            rejected |= {start + index: why for index, why in answer.rejected.items()}
        return EventsAnswer(accepted, duplicates, rejected)

    # ---------------------------------------------------------------- catalogue
    def put_item(
        self, item_id: str, *, title: str, text: str | None = None, category: str = ""
    ) -> None:
        """Put an item into the catalogue; when this returns, it is ranked.

        The service's first new text takes it some seconds: give such a client a longer timeout.

        Raises:
            ProblemError: if the service refuses it.
            ServiceUnavailableError: if no answer comes.
        """
        body = {"title": title, "text": text, "category": category}
        self._ask("PUT", f"/v1/items/{_escaped(item_id)}", body)

    def delete_item(self, item_id: str) -> None:
        """Take an item out of all lists.

        Raises:
            ProblemError: if the service refuses it.
            ServiceUnavailableError: if no answer comes.
        """
        self._ask("DELETE", f"/v1/items/{_escaped(item_id)}")

    def put_stock(self, quantities: Iterable[tuple[str, float]], *, complete: bool = False) -> None:
        """Say how much there is of items; with `complete`, all others are out of stock.

        Raises:
            ProblemError: if the service refuses it.
            ServiceUnavailableError: if no answer comes.
        """
        items = [{"item_id": item_id, "quantity": amount} for item_id, amount in quantities]
        self._ask("PUT", "/v1/stock", {"items": items, "complete": complete})

    def forget_shopper(self, shopper_id: str) -> None:
        """Delete all that the service keeps of a shopper.

        Raises:
            ProblemError: if the service refuses it.
            ServiceUnavailableError: if no answer comes.
        """
        self._ask("DELETE", f"/v1/shoppers/{_escaped(shopper_id)}")

    # ---------------------------------------------------------------- one call
    def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, again: bool = False
    ) -> Any:
        """Return the answer's JSON; None where it has none."""
        again = again or method in _IDEMPOTENT
        for tried in range(1, _TRIES + 1):
            wait = _FIRST_WAIT * 2 ** (tried - 1)
            # `from None`: httpx's errors hold the request, and that the key and ids of shoppers.
            try:
                answer = self._http.request(method, path, json=body)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if tried == _TRIES:
                    raise ServiceUnavailableError("The service is not reached.") from None
            except httpx.TransportError as error:
                if tried == _TRIES or not again:
                    kind = type(error).__name__
                    raise ServiceUnavailableError(f"No answer came: {kind}.") from None
            else:
                if answer.is_success:
                    return answer.json() if answer.content else None
                problem = _problem(answer)
                wait = max(wait, problem.retry_after or 0.0)
                hopeless = answer.status_code not in _TRY_AGAIN or wait > _LONGEST_WAIT
                if tried == _TRIES or hopeless or not again:
                    raise problem
            self._sleep(wait)
        raise AssertionError  # the last try returns or raises


def _problem(answer: httpx.Response) -> ProblemError:
    """Return the problem of an answer, whoever gave it: a proxy in between answers in HTML."""
    try:
        found = answer.json()
    except ValueError:
        found = {}
    named = answer.headers.get("retry-after", "")
    retry_after = float(named) if named.isascii() and named.isdigit() else None
    return ProblemError(answer.status_code, found if isinstance(found, dict) else {}, retry_after)


def _escaped(part: str) -> str:
    """Return one part of a path; dots too, or `..` would be another path."""
    return quote(part, safe="").replace(".", "%2E")


def _check(address: str) -> None:
    url = httpx.URL(address)
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError("address: give http://127.0.0.1:PORT or https://HOST")
    if url.scheme == "http" and not _is_loopback(url.host):
        raise ValueError("address: over a network the key needs https")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
