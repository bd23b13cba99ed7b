"""What a harness remembers while it lives."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Memory(Generic[K, V]):
    """The most recently used values, up to a total weight."""

    def __init__(self, capacity: int) -> None:
        self._room = self._capacity = capacity
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def get(self, key: K) -> V | None:
        """The value, which is now the last one to be forgotten."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key][0]

    def put(self, key: K, value: V, weight: int) -> None:
        """Keeps a value, and forgets what no longer fits beside it."""
        if key in self._values:
            return
        self._values[key] = value, weight
        self._room -= weight
        while self._room < 0:
            self._room += self._values.popitem(last=False)[1][1]

    def clear(self) -> None:
        """Forgets everything."""
        self._values.clear()
        self._room = self._capacity
