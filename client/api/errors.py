"""What can go wrong between a shop's server and the service. No message repeats a key or a path."""

from collections.abc import Mapping
from typing import Any


class ServiceError(Exception):
    """Any failure of a call."""


class ServiceUnavailableError(ServiceError):
    """No answer came: the service is not reached, or took too long."""


class ProblemError(ServiceError):
    """The service answered with a problem (RFC 9457).

    Attributes:
        status: Of HTTP.
        title: In a few words.
        detail: In a sentence.
        errors: Which fields are wrong: `pointer` and `detail` each.
        retry_after: Seconds to wait, where the service names them.
    """

    def __init__(
        self, status: int, problem: Mapping[str, Any], retry_after: float | None = None
    ) -> None:
        self.status = status
        self.title = str(problem.get("title", "The answer is no problem document"))
        self.detail = str(problem.get("detail", ""))
        self.errors = tuple(problem.get("errors") or ())
        self.retry_after = retry_after
        super().__init__(f"{status} {self.title}" + (f": {self.detail}" if self.detail else ""))
