"""What becomes of a secure sum that failed: one rule for the server and the auditor.

It stays charged, and its round is given up: the adapter stays as it was, and nobody is asked for
that round again. So rounds cost no more than their plan, whoever spoils their sums. Histogram and
season cannot be left out and are asked for again, each time for another charge: that is above it.
"""

from typing import Final

from common.privacy.accounting.plan import EventKind

# After so many sums that failed a start asks for no other: the rounds that are left are given up,
# or, where no round came to anything yet, the start ends with the last one's error.
MOST_FAILED: Final = 8
ENDED: Final = "quorum:failed_sums"  # why a round was given up that nobody was asked for
_NAMES: Final[dict[str, EventKind]] = {
    "update": "train",
    "popularity": "popularity",
    "season": "season",
}
_BEYOND: Final = {
    f"federation:{name}_{what}": kind
    for name, kind in _NAMES.items()
    for what in ("norm", "coordinate")
}


def is_beyond(reason: str, kind: str) -> bool:
    """Return whether a public code says that a sum of a kind was beyond what honest parties give.

    The server has seen such a sum, and its transcript shows it: whoever says so can prove it.
    """
    return _BEYOND.get(reason) == kind


def failed_file(entry: int) -> str:
    """Return the name of the transcript of a sum that an entry of the journal says was refused."""
    return f"failed-{entry:06d}.sum"
