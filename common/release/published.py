"""What a repository of releases says beside the releases: where they lie, and two small records.

Targets of The Update Framework, by path:

    FEDERATION/latest.json        which release to use, and which were withdrawn
    FEDERATION/VERSION/NAME       each file of a release
    _trust/FEDERATION.json        the federation's release key and its certificate authorities

The first two are the federation's own role's to say, the last the operator's targets role's.
"""

import json
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, ValidationError

from common.errors import EnrolmentError, ReleaseError
from common.identity.enrolment import check_name
from common.record import Record, first_problem
from common.release.manifest import Version

METADATA: Final = "metadata"  # folders of a repository
TARGETS: Final = "targets"
MAX_RECORD_BYTES: Final = 1 << 16
MAX_WITHDRAWN: Final = 100
MAX_REASON: Final = 200
RELEASE_KEY: Final = "release_key"  # with a manifest's target: the key, PEM, that signed it


def _named(name: str) -> str:
    try:
        return check_name(name)
    except EnrolmentError as error:
        raise ValueError(str(error)) from None


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it must be one line of printable text")
    return text


Federation = Annotated[str, AfterValidator(_named)]
Reason = Annotated[str, Field(max_length=MAX_REASON), AfterValidator(_printable)]


class _Published(Record):
    def to_bytes(self) -> bytes:
        """Return the file's content: JSON, keys sorted."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1).encode() + b"\n"

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read the file's content, once it is verified.

        Raises:
            ReleaseError: names the field and what is wrong with it.
        """
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            raise ReleaseError(
                f"The repository's {cls.__name__} is not valid: {first_problem(error)}. Ask the "
                "operator.",
                field="release",
            ) from None


class Withdrawn(Record):
    """A release that the operator has taken back, and why, in a line."""

    version: Version
    reason: Reason


class Latest(_Published):
    """Which release of a federation to use.

    Attributes:
        federation: Whose.
        version: The release to use; None where there is none, or none any more.
        withdrawn: Releases that were taken back, the last first.
    """

    format: Literal["fedtail-latest"] = "fedtail-latest"
    federation: Federation
    version: Version | None = None
    withdrawn: tuple[Withdrawn, ...] = Field(default=(), max_length=MAX_WITHDRAWN)

    def reason(self, version: str) -> str | None:
        """Return why a version was withdrawn; None if it was not."""
        return next((one.reason for one in self.withdrawn if one.version == version), None)


class FederationTrust(_Published):
    """Whom the members of a federation trust beside the repository's own roles.

    Attributes:
        federation: Whose.
        release_key: Signs manifests, PEM.
        authority: Certificates, PEM, one after another: each may sign the server's certificate.
    """

    format: Literal["fedtail-trust"] = "fedtail-trust"
    federation: Federation
    release_key: str = Field(max_length=2000)
    authority: str = Field(max_length=40_000)


def latest_path(federation: str) -> str:
    """Return the target that says which release is the latest."""
    return f"{federation}/latest.json"


def release_path(federation: str, version: str, name: str) -> str:
    """Return the target of one of a release's files."""
    return f"{federation}/{version}/{name}"


def trust_path(federation: str) -> str:
    """Return the target that says whom a federation trusts."""
    return f"_trust/{federation}.json"


def role_of(federation: str) -> str:
    """Return the name of the role that lists a federation's releases."""
    return f"releases-{federation}"


def delegated_paths(federation: str) -> list[str]:
    """Return the patterns of all that a federation's role may list; a star stands for no slash."""
    return [f"{federation}{'/*' * depth}" for depth in range(1, 5)]
