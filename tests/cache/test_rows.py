from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ser.cache import rows
from ser.cache.rows import Rows, parted
from ser.cache.store import Store, digest, load_or_build


@pytest.fixture
def three(tmp_path: Path) -> list[Store]:
    """Stores of 3, 1 and 2 rows that count on; a row is its number twice."""

    def produce(numbers: range) -> Iterator[tuple[np.ndarray, str]]:
        return ((np.full((1, 2), number, np.int16), str(number)) for number in numbers)

    blocks = (range(3), range(3, 4), range(4, 6))
    return [load_or_build(tmp_path, "n", digest(str(b)), lambda b=b: produce(b)) for b in blocks]


def test_several_stores_are_read_as_one(three: list[Store]):
    whole = Rows.of(three)
    assert whole.notes == tuple("012345")
    assert [row[0, 0] for row in whole] == [*range(6)]
    asked = np.array([5, 0, 3, 0, 4])
    assert np.array_equal(whole.take(asked), np.stack([asked, asked], 1))
    some = whole.only([0, 2, 3, 5])
    assert some.take([3, 1]).tolist() == [[5, 5], [2, 2]]
    assert [(part.start, part.stop) for part, _ in some.blocks()] == [(0, 2), (2, 3), (3, 4)]
    keys, parts = [key for _, key in whole.blocks()], [key for _, key in some.blocks()]
    assert keys == [store.key for store in three]
    assert parts[1] == keys[1]  # of all of its rows
    assert not {parts[0], parts[2]} & {*keys}


def test_what_stays_together_is_parted_between(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rows, "FEWEST", 4)
    assert parted(range(10), str) == [range(4), range(4, 8), range(8, 10)]
    assert parted("aaabbbccc", str) == ["aaabbb", "ccc"]  # a file's segments stay together
    assert parted("a" * 9, str) == ["a" * 9]
    assert parted("", str) == []
    assert len(parted(range(1_000_000), int)) == rows.MOST_BLOCKS
