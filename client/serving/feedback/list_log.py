"""Write served lists behind the answer, many in one commit.

A list is shown whether or not its row is on disk yet: waiting for the disk would make each answer
some milliseconds slower. A crash loses the lists of the last moment, and events that name them are
then kept without credit. A disk that refuses keeps the newest LONGEST lists waiting.
"""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, insert

from client.serving.feedback.database import told_plainly, writing
from client.serving.feedback.tables import RECOMMENDATIONS
from common.errors import StorageError

LONGEST = 20_000
_PATIENCE = 1.0  # seconds until a refused write is tried again


class ListLog:
    """Rows of served lists on their way to disk."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: OrderedDict[str, Mapping[str, Any]] = OrderedDict()
        self._changed = threading.Condition()
        self._writing = threading.Lock()
        self._closed = False
        self.lost = 0  # lists that never reached the disk
        self._thread = threading.Thread(target=self._run, name="list-log", daemon=True)
        self._thread.start()

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep a row of the table of recommendations, soon."""
        with self._changed:
            self._waiting[row["recommendation_id"]] = row
            while len(self._waiting) > LONGEST:
                self._waiting.popitem(last=False)
                self.lost += 1
            self._changed.notify()

    def pending(self, recommendation_id: str) -> Mapping[str, Any] | None:
        """Return a row that is not on disk yet."""
        with self._changed:
            return self._waiting.get(recommendation_id)

    def forget(self, shopper_id: str) -> None:
        """Drop what is pending of a shopper; when it returns, nothing of it is being written."""
        with self._writing, self._changed:
            mine = [name for name, row in self._waiting.items() if row["shopper_id"] == shopper_id]
            for name in mine:
                del self._waiting[name]

    def flush(self) -> None:
        """Write all that is pending now.

        Raises:
            StorageError: if the database refuses.
        """
        with self._writing:
            with self._changed:
                rows = dict(self._waiting)
            if not rows:
                return
            with told_plainly(), writing(self._engine) as connection:
                connection.execute(insert(RECOMMENDATIONS), list(rows.values()))
            with self._changed:
                for name in rows:
                    self._waiting.pop(name, None)

    def close(self) -> None:
        """Write what is pending, if the database lets us, and stop."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        with contextlib.suppress(StorageError):
            self.flush()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
            try:
                self.flush()
            except StorageError:
                with self._changed:
                    self._changed.wait(_PATIENCE)
