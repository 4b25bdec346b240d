"""Which pictures show the same: the group whose members are most alike, pair by pair.

What a group shows is not asked here: ten pictures of nothing are very much alike. Whoever asks
leaves such pictures out first.
"""

from __future__ import annotations

import numpy as np

from storyforge.metrics.clip import Vectors


def tightest(vectors: Vectors, count: int) -> tuple[int, ...]:
    """The rows, in order, of the group of `count` with the highest mean cosine of its pairs.

    Begins at every row with those most like it, and exchanges members as long as that helps: for a
    few dozen rows it finds the best group in all but contrived cases.

    vectors  (n, d) each of length 1
    """
    total = len(vectors)
    if count >= total:
        return tuple(range(total))
    alike = vectors @ vectors.T
    np.fill_diagonal(alike, 0)
    best, chosen = -np.inf, np.arange(count)
    for first in range(total):
        near = np.argsort(-alike[first] - 4 * (np.arange(total) == first), kind="stable")[:count]
        group = _exchanged(alike, near)
        found = float(alike[np.ix_(group, group)].sum())
        if found > best + 1e-9:
            best, chosen = found, group
    return tuple(sorted(int(row) for row in chosen))


def _exchanged(alike: Vectors, group: np.ndarray) -> np.ndarray:
    """The group after exchanges of one member against one outside, the best first."""
    inside = np.zeros(len(alike), bool)
    inside[group] = True
    while True:
        to_group = alike[:, inside].sum(1)
        members, others = np.nonzero(inside)[0], np.nonzero(~inside)[0]
        # What the newcomer brings, less what the one who leaves took along and their own pair.
        gain = to_group[others][None] - to_group[members][:, None] - alike[np.ix_(members, others)]
        leaves, comes = np.unravel_index(int(gain.argmax()), gain.shape)
        if gain[leaves, comes] <= 1e-9:
            return members
        inside[members[leaves]], inside[others[comes]] = False, True
