from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ser.corpora.scan import parse
from ser.splits.leakage import audit, check_objective, check_statistics

NAMES = [f"03-01-05-01-01-01-{speaker:02}.wav" for speaker in (1, 2, 3)]


def clips(*names: str):
    return [parse(Path(name)) for name in names]


def test_disjoint_speakers_and_samples_pass():
    found = audit(clips(*NAMES), ["train", "val", "test"], ["a", "b", "c"], leaky=False)
    assert found["passed"]
    assert found["speakers"] == {
        "train": ["ravdess/01"],
        "val": ["ravdess/02"],
        "test": ["ravdess/03"],
    }


def test_a_speaker_on_both_sides_is_refused():
    taken = clips(*NAMES, "03-01-05-01-01-02-03.wav")
    splits = ["train", "val", "test", "train"]
    with pytest.raises(ValueError, match=r"speakers \['ravdess/03'\]"):
        audit(taken, splits, ["a", "b", "c", "d"], leaky=False)
    assert audit(taken, splits, ["a", "b", "c", "d"], leaky=True)["speakers_shared"] == [
        "ravdess/03"
    ]


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


def test_a_repetition_across_the_split_is_counted():
    first, again, other = "03-01-05-01-01-01-03", "03-01-05-01-01-02-03", "03-01-05-01-02-01-03"
    taken = clips(*NAMES[:2], *(f"{name}.wav" for name in (first, again, other)))
    splits = ["train", "val", "test", "train", "train"]
    found = audit(taken, splits, list("abcde"), leaky=True)
    assert found["test_repetitions_trained"] == 1
    splits = ["train", "val", "test", "test", "train"]
    assert audit(taken, splits, list("abcde"), leaky=True)["test_repetitions_trained"] == 0


def test_a_take_across_the_split_is_counted_and_is_no_repetition():
    take, again = "01-05-01-01-01-03", "01-05-01-01-02-03"
    pair = [f"03-{take}.wav", f"01-{take}.mp4"]
    # (names, splits) -> takes on two sides, test clips whose take or whose repetition is not tested
    for names, splits, expected in (
        (pair, ["test", "train"], (1, 1, 0)),
        (pair, ["test", "test"], (0, 0, 0)),
        (pair, ["val", "train"], (1, 0, 0)),
        ([*pair, f"01-{again}.mp4"], ["test", "test", "train"], (0, 0, 2)),
        ([*pair, f"01-{again}.mp4"], ["test", "train", "test"], (1, 1, 1)),
    ):
        found = audit(clips(*names), splits, names, leaky=True)
        keys = ("takes_shared", "test_takes_trained", "test_repetitions_trained")
        assert tuple(found[key] for key in keys) == expected
        assert found["passed"] == (expected == (0, 0, 0))
    with pytest.raises(ValueError, match=r"speakers \['ravdess/03'\]"):
        audit(clips(*pair), ["test", "train"], pair, leaky=False)


def test_a_scaler_that_knows_other_clips_is_refused():
    generator = np.random.default_rng(0)
    features, labels = generator.normal(size=(80, 5)), generator.integers(2, size=80)
    train = slice(60)
    pipeline = make_pipeline(StandardScaler(), PCA(3), LogisticRegression())
    pipeline.fit(features[train], labels[train])
    check_statistics(pipeline, features[train], labels[train])
    check_statistics(pipeline[-1], features[train], labels[train])
    # Fitted on all, or on as many of others: the number of clips alone would not tell.
    for seen in (features, features[20:]):
        pipeline.set_params(standardscaler=StandardScaler().fit(seen))
        with pytest.raises(ValueError, match="of standardscaler is not that of the 60 training"):
            check_statistics(pipeline, features[train], labels[train])
    pipeline.fit(features[train], labels[train])
    pipeline.set_params(pca=PCA(3).fit(features))
    with pytest.raises(ValueError, match="n_samples_ of pca"):
        check_statistics(pipeline, features[train], labels[train])


@pytest.mark.parametrize("metric", ["test/uar", "uar", "leaky-test/uar"])
def test_nothing_is_chosen_by_a_test_metric(metric: str):
    with pytest.raises(ValueError, match=f"objective='{metric}' may decide nothing"):
        check_objective("objective", metric)
    for fine in ("val/uar", "val/f1/sad", "train/loss", None):
        check_objective("objective", fine)


def test_segments_of_one_file_that_overlap_across_the_split_share_samples():
    first, second, third = clips(*NAMES)
    parts = [
        replace(
            clip, path=Path("long.wav"), clip=f"mine/long.wav#{start}-{end}", start=start, end=end
        )
        for clip, start, end in ((first, 0, 3), (second, 3, 6), (third, 5, 7))
    ]
    splits = ["train", "val", "test"]
    found = audit(parts[:2], splits[:2], ["a", "b"], leaky=False)
    assert found["samples_shared"] == []  # they touch
    with pytest.raises(ValueError, match=r"#3-6 \(val\) and long.wav#5-7 \(test\) hold the same"):
        audit(parts, splits, list("abc"), leaky=False)
    found = audit(parts, splits, list("abc"), leaky=True)
    assert found["samples_shared"] == [["long.wav#3-6", "long.wav#5-7"]]
    assert not found["passed"]
    same = audit(parts, ["train", "test", "test"], list("abc"), leaky=False)
    assert same["passed"]  # within one split it is no leak
