"""The rows of stores, joined or some of them, read as those of one."""

from dataclasses import dataclass

import numpy as np

from ser.cache.store import Store, digest


@dataclass(frozen=True)
class Joined:
    """Two stores read as one: the rows of the second follow those of the first."""

    first: Store
    second: Store

    @property
    def key(self) -> str:
        """What the rows were computed from, as a digest."""
        return digest(self.first.key, self.second.key)

    @property
    def notes(self) -> tuple[str, ...]:
        """One string a row."""
        return self.first.notes + self.second.notes

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, row: int) -> np.ndarray:
        count = len(self.first)
        return self.first[row] if row < count else self.second[row - count]


@dataclass(frozen=True)
class Kept:
    """Some rows of a store."""

    store: Store | Joined
    rows: tuple[int, ...]

    @property
    def key(self) -> str:
        """What the rows were computed from, as a digest."""
        return digest(self.store.key, self.rows)

    @property
    def notes(self) -> tuple[str, ...]:
        """One string a row."""
        notes = self.store.notes
        return tuple(notes[row] for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.store[self.rows[row]]
