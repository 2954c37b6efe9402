"""Who is left out for what parties say of each other's shares: one of two in each dispute lies.

The fewest that explain all disputes are wanted. That is a vertex cover, which nobody finds quickly;
what is found here is nearly as few, and holds no more honest parties than there are liars.
"""

from collections import Counter
from collections.abc import Collection

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, maximum_bipartite_matching

Dispute = tuple[str, str]  # who says it, of whom


def liars(disputes: Collection[Dispute]) -> tuple[str, ...]:
    """Return parties of which one is in each dispute, the surest first.

    Formal guarantee:
        Where each dispute has a liar in it, no more others are returned than there are liars: each
        one that `_sure` finds has a partner of its own that is not returned, and of those that are
        open at least half lie (Nemhauser and Trotter, 1975).

    Two honest parties have no dispute. A party that deals nonsense to many is in most of them, and
    so is one that accuses many; of a pair that knows no third, the accused goes first.
    """
    sure = _sure(disputes)
    left = {pair for pair in disputes if sure.isdisjoint(pair)}
    found = sorted(sure)
    while left:
        accused = Counter(other for _, other in left)
        count = Counter(one for pair in {frozenset(pair) for pair in left} for one in pair)
        worst = max(sorted(count), key=lambda name: (count[name], accused[name]))
        found.append(worst)
        left = {pair for pair in left if worst not in pair}
    return tuple(found)


def _sure(disputes: Collection[Dispute]) -> set[str]:
    """Return who is 1 in a least cover by halves: some cover of the fewest has them all.

    It is half of a least cover of the graph that has each party twice, once at either end of what
    it is in, which follows from a greatest matching there (Kőnig).
    """
    names = sorted({one for pair in disputes for one in pair})
    if not names:
        return set()
    place, size = {name: number for number, name in enumerate(names)}, len(names)
    ends = np.array([[place[one], place[other]] for one, other in disputes])
    rows, columns = np.concatenate([ends, ends[:, ::-1]]).T
    graph = csr_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(size, size))
    mate = maximum_bipartite_matching(graph, perm_type="column")  # of each row; -1: none
    # From a root to all rows without a mate, from there to any column, and back by a mate.
    single, root = np.flatnonzero(mate < 0), 2 * size
    matched = np.flatnonzero(mate >= 0)
    begins = np.concatenate([np.full(len(single), root), rows, size + mate[matched]])
    ends_at = np.concatenate([single, size + columns, matched])
    steps = csr_matrix((np.ones(len(begins), np.int8), (begins, ends_at)), shape=(root + 1,) * 2)
    reached = np.zeros(root + 1, bool)
    reached[breadth_first_order(steps, root, return_predecessors=False)] = True
    return {names[one] for one in range(size) if not reached[one] and reached[size + one]}
