"""Numbers for the channels of a network, and which of them live and die together."""

import numpy as np


class UnitBook:
    """Numbers the units, ties them together and locks them."""

    def __init__(self):
        self._all = _Classes()
        # Without the ties of products, in which one side weighs the other.
        self._alike = _Classes()
        self._locks = []

    def fresh(self, count: int) -> np.ndarray:
        """New units, as an array of their numbers."""
        self._alike.extend(count)
        return self._all.extend(count)

    def tie(self, some: np.ndarray, others: np.ndarray, weighing: bool = False) -> None:
        """Makes one unit of each pair.

        Args:
          some: units.
          others: as many.
          weighing: whether one is multiplied with the other.
        """
        for one, other in zip(some.tolist(), others.tolist(), strict=True):
            self._all.join(one, other)
            if not weighing:
                self._alike.join(one, other)

    def lock(self, ids: np.ndarray, why: str) -> None:
        """They must stay."""
        self._locks.extend((unit, why) for unit in ids.tolist())

    def units(self) -> np.ndarray:
        """Unit as first numbered → the unit that it became part of."""
        return self._all.roots()

    def alike(self) -> np.ndarray:
        """Unit as first numbered → the part of its unit that no product has tied to the rest."""
        return self._alike.roots()

    def locked(self) -> dict[int, str]:
        """Unit → why it must stay, the first reason given."""
        reasons, units = {}, self.units()
        for unit, why in self._locks:
            reasons.setdefault(int(units[unit]), why)
        return reasons


class _Classes:
    """Union-find."""

    def __init__(self):
        self._parents = []

    def extend(self, count):
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return np.arange(first, first + count)

    def join(self, one, other):
        self._parents[self._root(other)] = self._root(one)

    def roots(self):
        return np.array([self._root(each) for each in range(len(self._parents))], int)

    def _root(self, each):
        while self._parents[each] != each:
            self._parents[each] = self._parents[self._parents[each]]
            each = self._parents[each]
        return each
