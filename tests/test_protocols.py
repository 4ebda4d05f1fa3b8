from collections import Counter, defaultdict
from pathlib import Path

import pytest

from ser.data.corpora import EMOTIONS, scan
from ser.data.protocols import Holdout, Random, Recorded, assign, select_classes


@pytest.fixture(scope="module")
def clips(official: Path):
    return scan(official).clips


@pytest.mark.parametrize("seed", range(10))
def test_holdout_has_two_men_and_two_women_unseen(clips, seed: int):
    splits = assign(clips, Holdout(seed=seed), "train")
    actors = defaultdict(set)
    emotions = defaultdict(Counter)
    for clip in clips:
        split = splits[clip.name]
        emotions[split][clip.emotion] += 1
        actors[split].add((clip.actor, clip.gender))
    assert not actors["test"] & actors["val"] | actors["test"] & actors["train"]
    assert not actors["val"] & actors["train"]
    for split in ("val", "test"):
        assert Counter(gender for _, gender in actors[split]) == {"male": 2, "female": 2}
        assert set(emotions[split]) == set(EMOTIONS)
    assert len(actors["train"]) == 16 + 2


def test_seeds_test_different_actors(clips):
    tested = {
        frozenset(c.actor for c in clips if splits[c.name] == "test")
        for splits in (assign(clips, Holdout(seed=seed), "train") for seed in range(10))
    }
    assert len(tested) > 5


def test_random_keeps_the_shares_of_every_class_and_mixes_actors(clips):
    splits = assign(clips, Random(), "off")
    count = Counter(splits.values())
    assert count["test"] == pytest.approx(0.2 * 2452, abs=1)
    assert count["val"] == pytest.approx(0.2 * 0.8 * 2452, abs=1)
    for emotion in EMOTIONS:
        of_class = [splits[c.name] for c in clips if c.emotion == emotion and c.name in splits]
        assert of_class.count("test") == pytest.approx(0.2 * len(of_class), abs=1)
    actors = {split: {c.actor for c in clips if splits.get(c.name) == split} for split in count}
    assert actors["test"] == actors["train"]


@pytest.mark.parametrize(
    ("tess", "expected"),
    [
        ("train", {"OAF": "train", "YAF": "train"}),
        ("test", {"OAF": "test", "YAF": "test"}),
        ("oaf_to_yaf", {"OAF": "train", "YAF": "test"}),
        ("yaf_to_oaf", {"OAF": "test", "YAF": "train"}),
        ("off", {}),
    ],
)
def test_tess_is_placed(clips, tess: str, expected: dict[str, str]):
    splits = assign(clips, Holdout(), tess)
    placed = {c.actor: splits[c.name] for c in clips if c.corpus == "tess" and c.name in splits}
    assert placed == expected
    ravdess = {splits[c.name] for c in clips if c.corpus == "ravdess"}
    assert ravdess == {
        "train": {"train", "val", "test"},
        "off": {"train", "val", "test"},
        "test": {"train", "val"},
    }.get(tess, {"val"})


def test_a_recorded_split_is_repeated_and_takes_nothing_new(clips):
    splits = assign(clips, Holdout(), "train")
    half = dict(list(splits.items())[::2])
    assert assign(clips, Recorded("holdout", False, half), "train") == half


def test_too_few_actors_are_an_error(clips):
    two = [clip for clip in clips if clip.actor in ("01", "02")]
    with pytest.raises(ValueError, match=r"at least 3 RAVDESS actors, got \['01', '02'\]"):
        assign(two, Holdout(), "train")


def test_an_unbalanced_holdout_is_said(clips, caplog: pytest.LogCaptureFixture):
    men = [clip for clip in clips if clip.gender == "male"]
    assign(men, Holdout(), "off")
    assert "0 women instead of 2 and 2" in caplog.text


def test_classes_keep_their_order_and_close_up():
    assert select_classes() == list(EMOTIONS)
    assert select_classes(drop=["sad", "calm"]) == [
        "neutral", "happy", "angry", "fearful", "disgust", "surprised"
    ]  # fmt: skip
    assert select_classes(keep=["sad", "happy"]) == ["happy", "sad"]


@pytest.mark.parametrize(
    ("typo", "nearest"), [("sat", "sad"), ("Angry", "angry"), ("surprise", "surprised")]
)
def test_a_misspelt_class_gets_the_eight_names_and_the_nearest(typo: str, nearest: str):
    with pytest.raises(ValueError, match=f"{typo!r}.*{', '.join(EMOTIONS)}.*{nearest!r}"):
        select_classes(drop=[typo])


def test_one_class_is_no_task():
    with pytest.raises(ValueError, match="at least two"):
        select_classes(keep=["sad"])


def test_an_unknown_placement_names_the_known_ones(clips):
    with pytest.raises(ValueError, match="oaf_to_yaf"):
        assign(clips, Holdout(), "both")
