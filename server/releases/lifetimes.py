"""Roles of The Update Framework, and how long each one's word holds."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from common.errors import SettingsError

TopRole = Literal["root", "targets", "snapshot", "timestamp"]
OFFLINE_ROLES: Final[tuple[TopRole, ...]] = ("root", "targets")
ONLINE_ROLES: Final[tuple[TopRole, ...]] = ("snapshot", "timestamp")
TOP_ROLES: Final[tuple[TopRole, ...]] = (*OFFLINE_ROLES, *ONLINE_ROLES)
MAX_DAYS: Final = 3650


@dataclass(frozen=True)
class Lifetimes:
    """After how many days each role's metadata expires, 1 to 3650.

    Attributes:
        root: Of the list of keys; its key signs anew before.
        targets: Of the list of federations.
        releases: Of each federation's list of releases.
        snapshot: Of the list of metadata; the server signs anew by itself.
        timestamp: Of the word that this is the newest. No node takes anything from a server, or
            from somebody who holds its word back, that is silent for longer.
    """

    root: int = 365
    targets: int = 365
    releases: int = 365
    snapshot: int = 14
    timestamp: int = 3

    def __post_init__(self) -> None:
        for name, days in vars(self).items():
            if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= MAX_DAYS:
                raise SettingsError(
                    f"`{name}_days` must be a whole number from 1 to {MAX_DAYS}.",
                    field=f"{name}_days",
                )

    def of(self, role: str) -> timedelta:
        """Return how long a role's metadata holds; any role that is not one of these is a list."""
        return timedelta(days=getattr(self, role if role in TOP_ROLES else "releases"))
