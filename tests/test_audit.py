from pathlib import Path

import pytest

from ser.data.audit import audit
from ser.data.corpora import parse

NAMES = [f"03-01-05-01-01-01-{actor:02}.wav" for actor in (1, 2, 3)]


def clips(*names: str):
    return [parse(Path(name)) for name in names]


def test_disjoint_actors_and_samples_pass():
    found = audit(clips(*NAMES), ["train", "val", "test"], ["a", "b", "c"], leaky=False)
    assert found["passed"]
    assert found["actors"] == {"train": ["01"], "val": ["02"], "test": ["03"]}


def test_an_actor_on_both_sides_is_refused():
    taken = clips(*NAMES, "03-01-05-01-01-02-03.wav")
    splits = ["train", "val", "test", "train"]
    with pytest.raises(ValueError, match=r"actors \['03'\]"):
        audit(taken, splits, ["a", "b", "c", "d"], leaky=False)
    assert audit(taken, splits, ["a", "b", "c", "d"], leaky=True)["actors_shared"] == ["03"]


def test_the_same_samples_under_another_name_are_refused():
    splits = ["train", "val", "test"]
    with pytest.raises(ValueError, match=f"{NAMES[0]}.*{NAMES[2]}.*same samples"):
        audit(clips(*NAMES), splits, ["a", "b", "a"], leaky=False)
    found = audit(clips(*NAMES), splits, ["a", "b", "a"], leaky=True)
    assert not found["passed"]
    assert found["samples_shared"] == [[NAMES[0], NAMES[2]]]


def test_a_copy_within_one_split_is_told_but_no_leak():
    taken = clips(*NAMES, "03-01-05-01-01-02-03.wav")
    found = audit(taken, ["train", "val", "test", "test"], ["a", "b", "c", "c"], leaky=False)
    assert found["passed"]
    assert found["samples_repeated"] == [[NAMES[2], "03-01-05-01-01-02-03.wav"]]
