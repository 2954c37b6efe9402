"""Open the secrets that a round's shares allow, and take their masks off the sum."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from common.errors import QuorumError
from common.privacy.secagg.keys import KeyPair, RoundSecret, expand, pair_purpose
from common.privacy.secagg.messages import Advertisement, Roster, UnmaskReply
from common.privacy.secagg.shamir import combine_checked


class Opened:
    """The secrets of a round that were opened, each held against what its party told at setup.

    False shares are left out where enough true ones are there.
    """

    def __init__(
        self,
        roster: Roster,
        threshold: int,
        around: Mapping[str, tuple[str, ...]],
        round_number: int,
        asked: str = "",
    ) -> None:
        """Start with none open."""
        self._roster, self._threshold, self._around = roster, threshold, around
        self._asked = asked
        self.round_number, self.digest, self.numbers = round_number, roster.digest, roster.numbers
        self.self_keys: dict[str, bytes] = {}
        self.mask_keys: dict[str, KeyPair] = {}

    def open_self(self, name: str, replies: Mapping[str, UnmaskReply]) -> None:
        """Open a survivor's self mask."""
        wanted = self._told(name).commitment(self.round_number)
        shares = {
            self.numbers[other]: replies[other].self_shares[name]
            for other in self._around[name]
            if other in replies
        }
        secret = self._open(name, shares, lambda number: RoundSecret(number).commitment() == wanted)
        self.self_keys[name] = secret.self_key(self.digest, self.round_number)

    def open_key(self, name: str, replies: Mapping[str, UnmaskReply]) -> None:
        """Open a dropout's mask key."""
        wanted = self._told(name).mask_key(self.round_number)
        shares = {
            self.numbers[other]: replies[other].key_shares[name]
            for other in self._around[name]
            if other in replies
        }
        secret = self._open(
            name, shares, lambda number: RoundSecret(number).mask_key().public == wanted
        )
        self.mask_keys[name] = secret.mask_key()

    def pair_mask(self, dropout: str, survivor: str, length: int) -> NDArray[np.uint64]:
        """Return the mask that a survivor shares with a dropout, with the survivor's sign."""
        one, other = self.numbers[survivor], self.numbers[dropout]
        purpose = pair_purpose(self.digest, self.round_number, self._asked, one, other)
        public = self._told(survivor).mask_key(self.round_number)
        mask = expand(self.mask_keys[dropout].agreed(public, *purpose), length)
        return mask if one < other else np.negative(mask)

    def neighbours_of(self, name: str) -> tuple[str, ...]:
        """Return who masks with a party."""
        return self._around[name]

    def _told(self, name: str) -> Advertisement:
        return self._roster.advertisements[self.numbers[name] - 1]

    def _open(
        self, name: str, shares: Mapping[int, int], accepts: Callable[[int], bool]
    ) -> RoundSecret:
        found = combine_checked(shares, self._threshold, accepts)
        if found is None:
            raise QuorumError(
                f"{len(shares)} shares do not open a secret of {name}, which takes "
                f"{self._threshold} true ones: it dealt false ones, or others gave some.",
                field="shares",
            )
        return RoundSecret(found)


def without_masks(masked: Mapping[str, NDArray[np.uint64]], opened: Opened) -> NDArray[np.uint64]:
    """Return the sum of masked vectors less all masks that are left in it: uint64 [length].

    Masks between two survivors cancel; each survivor's self mask is left, and its masks with the
    neighbours that are missing.
    """
    vectors = list(masked.values())
    total = np.zeros_like(vectors[0])
    for vector in vectors:
        total += vector
    for key in opened.self_keys.values():
        total -= expand(key, total.size)
    for dropout in opened.mask_keys:
        for survivor in opened.neighbours_of(dropout):
            if survivor in masked:
                total -= opened.pair_mask(dropout, survivor, total.size)
    return total
