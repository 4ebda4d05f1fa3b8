"""Rows of several stores, read as those of one."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby, pairwise
from typing import TypeVar

import numpy as np

from ser.cache.store import Store, digest

MOST_BLOCKS = 64
"""Stores that rows are parted into, as each that is open holds a file."""

FEWEST = 2000
"""Rows of a store, about; the last may have less."""

_Thing = TypeVar("_Thing")


@dataclass(frozen=True)
class Rows:
    """Some or all rows of one store or of several.

    Attributes:
        stores: Where they are.
        places: By row, its store and its row there, (rows, 2).
    """

    stores: Sequence[Store]
    places: np.ndarray

    @classmethod
    def of(cls, stores: Iterable[Store]) -> "Rows":
        """Return all rows of some stores."""
        stores = [*stores]
        places = [np.empty((0, 2), np.int32)]
        for place, store in enumerate(stores):
            rows = np.arange(len(store), dtype=np.int32)
            places.append(np.stack([np.full_like(rows, place), rows], 1))
        return cls(stores, np.concatenate(places))

    def only(self, rows: Sequence[int]) -> "Rows":
        """Return some of the rows."""
        return Rows(self.stores, self.places[list(rows)])

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """One string a row."""
        return tuple(self.stores[place].notes[row] for place, row in self.places)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, row: int) -> np.ndarray:
        place, row = self.places[row]
        return self.stores[place][row]

    def take(self, rows: Sequence[int]) -> np.ndarray:
        """Read rows of one array each, all of one shape: (rows, ...)."""
        values = self.stores[0].values
        taken = np.empty((len(rows), *values.shape[1:]), values.dtype)
        places = self.places[rows]
        for place in np.unique(places[:, 0]):
            chosen = places[:, 0] == place
            taken[chosen] = self.stores[place].values[places[chosen, 1]]
        return taken

    def blocks(self) -> Iterator[tuple[slice, str]]:
        """Yield the rows of each store, which follow each other, and the key of what they are."""
        begin = 0
        for place, group in groupby(self.places.tolist(), lambda one: one[0]):
            rows = [row for _, row in group]
            key = self.stores[place].key
            whole = len(rows) == len(self.stores[place])
            yield slice(begin, begin + len(rows)), key if whole else digest(key, rows)
            begin += len(rows)


def parted(things: Sequence[_Thing], source: Callable[[_Thing], object]) -> list[Sequence[_Thing]]:
    """Part things into blocks for a store each.

    Args:
        things: A row each.
        source: Of a thing: those of one that follow each other stay together.
    """
    size = max(FEWEST, -(-len(things) // MOST_BLOCKS))
    counts = [sum(1 for _ in run) for _, run in groupby(things, source)]
    begins = [0, *accumulate(counts)][:-1]
    ends = [one for last, one in pairwise(begins) if one // size != last // size]
    return [things[begin:end] for begin, end in pairwise([0, *ends, len(things)]) if end]
