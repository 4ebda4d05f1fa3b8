from collections import Counter
from pathlib import Path

import pytest
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

from ser.checkpoints import trust
from ser.corpora.clip import EMOTIONS, Clip
from ser.corpora.labels import label_clips, label_emotions
from ser.corpora.ravdess import SPEAKERS
from ser.corpora.scan import scan
from ser.splits.protocols import (
    CrossCorpus,
    Holdout,
    KFold,
    NamedFolds,
    Random,
    Statement,
    shared_labels,
)
from ser.splits.roles import assign, count

CONF = Path(__file__).parents[2] / "conf" / "protocol"
NAMED = {  # as published
    "luna5": [
        "02 05 14 15 16", "03 06 07 13 18", "10 11 12 19 20", "08 17 21 23 24", "01 04 09 22",
    ],
    "emobox6": [
        "01 11 20 21", "04 10 12 14", "08 09 19 23", "03 05 07 24", "02 15 16 18", "06 13 17 22",
    ],
    "sequential6": [
        "01 02 03 04", "05 06 07 08", "09 10 11 12", "13 14 15 16", "17 18 19 20", "21 22 23 24",
    ],
    "loso": list(SPEAKERS),
}  # fmt: skip
BALANCED = ("kfold", "sequential6", "statement", "holdout")
DISJOINT = ("kfold", *NAMED, "statement")


def configured(name: str):
    return instantiate(OmegaConf.load(CONF / f"{name}.yaml"), _convert_="all")


@pytest.fixture(scope="module")
def clips(official: Path) -> tuple[Clip, ...]:
    return scan(official).clips


def ravdess(clips) -> list[Clip]:
    return [clip for clip in clips if clip.corpus == "ravdess"]


def speakers(clips, splits: dict[str, str], split: str) -> list[str]:
    return sorted({c.speaker for c in ravdess(clips) if splits.get(c.clip) == split})


def all_folds(clips, protocol, tess: str = "train") -> list[dict[str, str]]:
    return [assign(clips, protocol, tess, fold) for fold in range(count(clips, protocol))]


def test_a_share_may_test_in_one_fold(clips):
    (splits,) = all_folds(clips, Random(test_size=0.25), "off")
    counts = Counter(splits.values())
    assert counts == {"test": 613, "val": 368, "train": 1471}  # 25 %, and 20 % of the rest


def test_mixed_tess_is_parted_where_speakers_do_not_matter_and_trains_where_they_do(clips):
    tested = Counter(
        name
        for splits in all_folds(clips, Random(), "mixed")
        for name, split in splits.items()
        if split == "test"
    )
    assert tested == Counter(clip.clip for clip in clips)
    # Recordings of TESS that are not asked for part no one.
    assert assign(clips, Random(), "mixed", 0, ["ravdess"]) == assign(clips, Random(), "train")
    # RAVDESS alone is parted as without TESS.
    assert assign(clips, KFold(), "mixed") == assign(clips, KFold(), "train")


@pytest.mark.parametrize("name", NAMED)
def test_named_folds_test_the_published_speakers(clips, name: str):
    found = [
        " ".join(speakers(clips, splits, "test")) for splits in all_folds(clips, configured(name))
    ]
    assert found == NAMED[name]


@pytest.mark.parametrize("name", DISJOINT)
def test_every_speaker_is_tested_once_by_a_model_that_never_heard_him(clips, name: str):
    tested = Counter()
    for splits in all_folds(clips, configured(name)):
        train, val, test = (
            set(speakers(clips, splits, split)) for split in ("train", "val", "test")
        )
        assert len(train | val | test) == len(train) + len(val) + len(test)
        assert len(val) == 4
        assert len(train) == 24 - 4 - len(test)
        tested.update(test)
    assert tested == Counter(list(SPEAKERS))


@pytest.mark.parametrize("name", [*DISJOINT, "holdout"])
def test_genders_and_classes_are_balanced(clips, name: str):
    for splits in all_folds(clips, configured(name)):
        for split in ("val", "test") if name in BALANCED else ("val",):
            # Odd numbers are men.
            assert sum(int(speaker) % 2 for speaker in speakers(clips, splits, split)) == 2
        for split in ("train", "val", "test"):
            speech = [c for c in ravdess(clips) if c.channel == "speech"]
            found = Counter(c.emotion for c in speech if splits.get(c.clip) == split)
            assert set(found) == set(EMOTIONS)
            neutral = found.pop("neutral")
            assert set(found.values()) == {2 * neutral}


@pytest.mark.parametrize("seed", range(10))
def test_a_seed_moves_speakers_and_keeps_the_balance(clips, seed: int):
    for protocol in (Holdout(seed=seed), KFold(seed=seed)):
        for splits in all_folds(clips, protocol):
            for split in ("val", "test"):
                assert sum(int(speaker) % 2 for speaker in speakers(clips, splits, split)) == 2
                assert len(speakers(clips, splits, split)) == 4


def test_seeds_test_and_validate_different_speakers(clips):
    for split, protocols in (
        ("test", [Holdout(seed=seed) for seed in range(10)]),
        ("val", [NamedFolds("loso", seed=seed) for seed in range(10)]),
    ):
        drawn = {tuple(speakers(clips, assign(clips, one, "off"), split)) for one in protocols}
        assert len(drawn) > 5


def test_a_fold_tests_a_sentence_that_was_not_heard(clips):
    tested = Counter()
    for splits in all_folds(clips, Statement(), "off"):
        heard = {c.statement for c in ravdess(clips) if splits.get(c.clip) in ("train", "val")}
        assert heard == {"kids"}
        tested.update(c.clip for c in clips if splits.get(c.clip) == "test")
    assert tested == Counter(c.clip for c in ravdess(clips) if c.statement == "dogs")
    assert set(assign(clips, Statement(tested="kids"), "off").values()) == {"train", "val", "test"}


def test_one_corpus_tests_what_the_other_taught(clips):
    there, back = all_folds(clips, configured("cross_corpus"))
    tess = {c.clip for c in clips if c.corpus == "tess"}
    assert {name for name, split in there.items() if split == "test"} == tess
    assert {name for name, split in back.items() if split == "test"} == {
        c.clip for c in ravdess(clips)
    }
    assert sum(int(speaker) % 2 for speaker in speakers(clips, there, "val")) == 2
    assert len(speakers(clips, there, "val")) == 4
    assert {c.speaker: back[c.clip] for c in clips if c.corpus == "tess"} == {
        "OAF": "train",
        "YAF": "val",
    }
    labels = label_clips(label_emotions(), "emotion")
    told = shared_labels(labels, CrossCorpus(), ["ravdess", "tess"])
    assert labels.keys() - told.keys() == {("calm", "male"), ("calm", "female")}
    merged = label_clips(label_emotions(merge={"calm": "neutral"}), "emotion")
    assert shared_labels(merged, CrossCorpus(), ["ravdess", "tess"]) == merged
    assert shared_labels(labels, Holdout(), ["ravdess", "tess"]) == labels
    with pytest.raises(ValueError, match=r"needs both corpora.* 0 clips of TESS"):
        assign(ravdess(clips), CrossCorpus(), "train")
    with pytest.raises(ValueError, match=r"data.tess=off: expected train"):
        assign(clips, CrossCorpus(), "off")


def test_random_keeps_the_shares_of_every_class_and_mixes_speakers(clips):
    tested = Counter()
    for splits in all_folds(clips, Random(), "off"):
        shares = Counter(splits.values())
        assert shares["test"] == pytest.approx(0.2 * 2452, abs=1)
        assert shares["val"] == pytest.approx(0.2 * 0.8 * 2452, abs=1)
        for emotion in EMOTIONS:
            of_class = [splits[c.clip] for c in ravdess(clips) if c.emotion == emotion]
            assert of_class.count("test") == pytest.approx(0.2 * len(of_class), abs=2)
        assert speakers(clips, splits, "test") == speakers(clips, splits, "train")
        tested.update(name for name, split in splits.items() if split == "test")
    assert tested == Counter(c.clip for c in ravdess(clips))


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
    placed = {c.speaker: splits[c.clip] for c in clips if c.corpus == "tess" and c.clip in splits}
    assert placed == expected
    assert {splits[c.clip] for c in ravdess(clips)} == {
        "train": {"train", "val", "test"},
        "off": {"train", "val", "test"},
        "test": {"train", "val"},
    }.get(tess, {"val"})
    if tess not in ("train", "off"):
        with pytest.raises(ValueError, match=f"data.tess={tess} says itself who tests.*kfold"):
            assign(clips, KFold(), tess)


def test_missing_speakers_shrink_a_fold_and_are_named(clips):
    luna = configured("luna5")
    gone = {"05", "14", "20"}
    few = [clip for clip in clips if clip.speaker not in gone]
    for fold, splits in enumerate(all_folds(clips, luna, "off")):
        shrunk = assign(few, luna, "off", fold)
        assert luna.missing(ravdess(few), fold) == {0: ["05", "14"], 2: ["20"]}.get(fold, [])
        assert luna.missing(ravdess(clips), fold) == []
        assert set(speakers(few, shrunk, "test")) == set(speakers(clips, splits, "test")) - gone
        # Who is missing moves no validator who is here.
        assert set(speakers(clips, splits, "val")) - gone <= set(speakers(few, shrunk, "val"))
    assert count(few, configured("loso")) == 21
    for protocol in (configured("loso"), KFold(), Statement()):
        assert protocol.missing(ravdess(few), 0) == sorted(gone)
        assert protocol.missing(ravdess(clips), 0) == []


def test_an_empty_fold_is_an_error_with_the_counts(clips):
    few = [clip for clip in clips if clip.speaker in ("01", "02", "03", "04", "09", "22")]
    with pytest.raises(ValueError, match=r"fold 2 of protocol=luna5 is empty.*10, 11.*6 speakers"):
        assign(few, configured("luna5"), "off", 2)


@pytest.mark.parametrize(
    ("protocol", "fold", "line"),
    [
        (KFold(), 6, "fold=6: expected 0 to 5 or all, the folds of protocol=kfold"),
        (KFold(), "first", "fold='first': expected 0 to 5"),
        (KFold(), True, "fold=True: expected 0 to 5"),
        (Holdout(), 1, "fold=1: expected 0 or all"),
        (KFold(folds=25), 0, "protocol.folds=25: expected 2 to 24"),
        (KFold(val_speakers=20), 0, "protocol.val_speakers=20: expected at most 19"),
    ],
)
def test_what_no_protocol_has_is_refused(clips, protocol, fold, line: str):
    with pytest.raises(ValueError, match=line):
        assign(clips, protocol, "off", fold)


@pytest.mark.parametrize(
    ("recipe", "line"),
    [
        ("NamedFolds {name: mine, folds: [[1, 2], [2, 3]]}", r"folds=\[\[1, 2\], \[2, 3\]\]"),
        ("NamedFolds {name: mine, folds: [[1, 25]]}", "protocol.folds.* at most 24"),
        ("NamedFolds {name: mine, folds: [[], [1]]}", "protocol.folds"),
        ("NamedFolds {name: mine, folds: [1, 2]}", "protocol.folds=.*: expected a list"),
        ("NamedFolds {name: mine, folds: 3}", "protocol.folds=3: expected a list"),
        ("NamedFolds {name: mine, val_speakers: two}", "protocol.val_speakers='two'"),
        ("KFold {folds: six}", "protocol.folds='six': expected a whole number"),
        ("KFold {folds: null}", "protocol.folds=None"),
        ("KFold {folds: 1}", "protocol.folds=1: expected at least 2"),
        ("KFold {seed: -1}", "protocol.seed=-1: expected at least 0"),
        ("Random {folds: 1}", "protocol.folds=1"),
        ("Random {test_size: 25.0}", "protocol.test_size=25.0: expected less than 1"),
        ("Random {val_size: 2.0}", "protocol.val_size=2.0: expected less than 1"),
        ("Statement {tested: cats}", "protocol.tested='cats': expected 'kids' or 'dogs'"),
        ("CrossCorpus {val_speakers: -1}", "protocol.val_speakers=-1: expected at least 0"),
    ],
)
def test_a_setting_that_no_protocol_can_have_is_refused(recipe: str, line: str):
    target, _, settings = recipe.partition(" ")
    config = OmegaConf.to_container(OmegaConf.create(settings))
    config["_target_"] = f"ser.splits.protocols.{target}"
    with pytest.raises(ValueError, match=line):  # noqa: PT012
        trust.check(config, "protocol", "protocol")
        get_class(config.pop("_target_"))(**config)


def test_too_few_speakers_are_an_error(clips):
    two = [clip for clip in clips if clip.speaker in ("01", "02")]
    with pytest.raises(ValueError, match=r"at least 3 speakers, got \['01', '02'\]"):
        assign(two, Holdout(), "train")


def test_an_unbalanced_holdout_names_who_is_missing(clips):
    men = [clip for clip in ravdess(clips) if clip.gender == "male"]
    assert Holdout().missing(men, 0) == [speaker for speaker in SPEAKERS if int(speaker) % 2 == 0]
    assert Holdout().missing(ravdess(clips), 0) == []


def test_an_unknown_placement_names_the_known_ones(clips):
    with pytest.raises(ValueError, match="oaf_to_yaf"):
        assign(clips, Holdout(), "both")
