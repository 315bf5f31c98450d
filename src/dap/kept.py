"""`Kept`: what a reverse chain asks for again at its next step, in bounded memory.

A chain goes through its steps in order and at each through all classes of a chunk, again and again. To drop what was
used longest ago would then drop exactly what is asked for next; so what is needed stays, and what does not fit beside
it is made again each time.
"""

from __future__ import annotations

from torch import Tensor

Key = tuple[int, int]  # label, step of the chain


class Kept:
    """Tensors by (label, step): at most `most` bytes, and beyond these what the class at work asks for again.

    To make room, these go first: steps that the chain has passed; then what it has not used since it began, the longest
    unused first; then what found no room before and belongs to another class. Nothing else goes.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._there: dict[Key, Tensor] = {}  # the longest unused first
        self._used: set[Key] = set()  # since the chain began
        self._beyond: set[Key] = set()  # what found no room
        self._at, self._first = -1, 0

    @property
    def nbytes(self) -> int:
        """Bytes of all that is there."""
        return sum(x.nbytes for x in self._there.values())

    def __len__(self) -> int:
        return len(self._there)

    def go(self, step: int, first: int) -> None:
        """The chain is at `step`, from where on it needs nothing before step `first`; going back, it begins anew."""
        if step < self._at:
            self._used.clear()
        self._at, self._first = step, first

    def get(self, key: Key) -> Tensor | None:
        """What was put, if it is still there."""
        found = self._there.pop(key, None)
        if found is not None:
            self._there[key] = found
            self._used.add(key)
        return found

    def put(self, key: Key, value: Tensor) -> None:
        """Keeps it, and drops what must go for it."""
        for old in self._droppable(key[0]):
            if self.nbytes + value.nbytes <= self.most:
                break
            del self._there[old]
            self._beyond.discard(old)
        if self.nbytes + value.nbytes > self.most:
            self._beyond.add(key)
        self._there[key] = value
        self._used.add(key)

    def _droppable(self, label: int) -> list[Key]:
        passed = [key for key in self._there if key[1] < self._first]
        idle = [key for key in self._there if key not in self._used]
        beyond = [key for key in self._there if key in self._beyond and key[0] != label]
        return list(dict.fromkeys([*passed, *idle, *beyond]))
