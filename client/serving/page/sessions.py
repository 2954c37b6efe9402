"""Who looks at the page: an admin key, given once, becomes a session that ends.

A session lives in this process's memory alone, under the hash of its token. The token is in an
HttpOnly cookie; the key is in no cookie and on no page. A session ends when its key is revoked.
"""

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from client.serving.keys import Keys

LONGEST_SECONDS = 12 * 3600.0
IDLE_SECONDS = 2 * 3600.0
TICKET_SECONDS = 600.0
_MOST_SESSIONS = 100
_TRIES_A_SECOND, _TRIES_AT_ONCE = 0.5, 10.0  # of wrong keys, of all who try


@dataclass(eq=False)
class Session:
    """One browser that is let in.

    Attributes:
        csrf: What each form of its pages sends back.
        key_id: Of the key it was opened with; "" for the ticket of whoever started the service.
        ends: When it ends at the latest, by the clock.
        idle: When it ends if nothing comes, by the clock.
    """

    csrf: str
    key_id: str
    ends: float
    idle: float


class TooManyTriesError(Exception):
    """Wrong keys came too fast."""


class Sessions:
    """The sessions of a running service."""

    def __init__(self, keys: Keys, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys, self._clock = keys, clock
        self._by_hash: dict[str, Session] = {}
        self._tickets: dict[str, float] = {}
        self._tries, self._tried = _TRIES_AT_ONCE, clock()
        self._changing = threading.Lock()

    def sign_in(self, presented: str) -> str | None:
        """Return the token of a new session for an admin key; None for any other.

        Raises:
            TooManyTriesError: if wrong keys came too fast. A right one is let in even then: nobody
                can lock the merchant out.
            InputError: if the file of keys cannot be read.
        """
        key = self._keys.find(presented.strip())
        if key is not None and "admin" in key.scopes:
            return self._opened(key.key_id)
        with self._changing:
            now = self._clock()
            gained = (now - self._tried) * _TRIES_A_SECOND
            self._tries, self._tried = min(self._tries + gained, _TRIES_AT_ONCE), now
            if self._tries < 1:
                raise TooManyTriesError
            self._tries -= 1
        return None

    def ticket(self) -> str:
        """Return a ticket that opens one session, within ten minutes."""
        ticket = secrets.token_urlsafe(32)
        with self._changing:
            self._tickets[_hashed(ticket)] = self._clock() + TICKET_SECONDS
        return ticket

    def redeem(self, ticket: str) -> str | None:
        """Return the token of a new session for a ticket that nobody used; else None."""
        with self._changing:
            ends = self._tickets.pop(_hashed(ticket), 0.0)
        return self._opened("") if self._clock() < ends else None

    def find(self, token: str) -> Session | None:
        """Return the session of a token, if it has not ended.

        Raises:
            InputError: if the file of keys cannot be read.
        """
        name, now = _hashed(token), self._clock()
        session = self._by_hash.get(name)
        if session is None:
            return None
        revoked = session.key_id and not any(
            one.key_id == session.key_id and "admin" in one.scopes for one in self._keys.all()
        )
        if revoked or now >= min(session.ends, session.idle):
            self.end(token)
            return None
        session.idle = now + IDLE_SECONDS
        return session

    def end(self, token: str) -> None:
        """End a session."""
        with self._changing:
            self._by_hash.pop(_hashed(token), None)

    def _opened(self, key_id: str) -> str:
        token, now = secrets.token_urlsafe(32), self._clock()
        session = Session(
            secrets.token_urlsafe(32), key_id, now + LONGEST_SECONDS, now + IDLE_SECONDS
        )
        with self._changing:
            while len(self._by_hash) >= _MOST_SESSIONS:
                del self._by_hash[min(self._by_hash, key=lambda one: self._by_hash[one].idle)]
            self._by_hash[_hashed(token)] = session
        return token


def same_secret(given: str, wanted: str) -> bool:
    """Whether two secrets are one, in a time that tells nothing."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
