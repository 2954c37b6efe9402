"""Whom the next setup of the secure sums leaves out: from what came over the wire, from no summand.

    sent a message that is none          named: out until the run is started again
    says that another's shares do not    one of the two lies: few parties that explain all such
      open, or is said so of             words are out, of whom half lie (`.disputes`)
    its secret did not open              out: it dealt false shares, or enough others gave some
    did not see a setup through          out of the setups until the next sum
    a sum was beyond bounds              nobody can be named: a group sits out, and another after
                                         each further sum of that kind, while who is left is enough

Only the first and the fourth may leave too few. For the rest the parties of the next setup stay at
least as many as carry the plan's noise, which every node demands for itself whatever is said here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from server.run.asking.disputes import liars


@dataclass(eq=False)
class LeftOut:
    """Who is left out of what is set up next in this start of a run.

    Attributes:
        named: Sent a message that was none.
        disputes: Who says of whom that its shares do not open.
        unopened: Whose secrets did not open.
        absent: Did not see a setup through since the last sum.
    """

    named: set[str] = field(default_factory=set)
    disputes: set[tuple[str, str]] = field(default_factory=set)
    unopened: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)
    _order: tuple[str, ...] = ()  # in whose groups parties sit out, from the first such sum on
    _turns: int = 0

    def choose(self, present: Sequence[str], least: int, most: int) -> tuple[str, ...]:
        """Return who is asked to take part: `most` at most, of those that are present.

        Args:
            present: By name, in order.
            least: How many stay where that is a matter of choice.
            most: The plan's merchants.
        """
        there = [name for name in present if name not in self.named | self.absent]
        for one in (*liars(self.disputes), *sorted(self.unopened)):
            if one in there and len(there) > least:
                there.remove(one)
        there = there[:most]
        out = self._sitting_out(len(there) - least)  # not more than can be spared
        return tuple(one for one in there if one not in out)

    def beyond(self, survivors: Iterable[str]) -> None:
        """Note a sum beyond bounds: of these parties one put more in than honest ones do."""
        self._order = self._order or tuple(sorted(survivors))
        self._turns += 1

    def _sitting_out(self, spare: int) -> tuple[str, ...]:
        """Return the group whose turn it is to sit out."""
        if not self._turns or spare < 1:
            return ()
        groups = [self._order[one : one + spare] for one in range(0, len(self._order), spare)]
        return groups[(self._turns - 1) % len(groups)]
