from collections import Counter, defaultdict
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

from ser.checkpoints import trust
from ser.corpora.clip import EMOTIONS, Clip
from ser.corpora.ravdess import SPEAKERS
from ser.corpora.scan import CORPORA, scan
from ser.splits.protocols import (
    CrossCorpus,
    Given,
    Holdout,
    KFold,
    NamedFolds,
    Random,
    Statement,
)
from ser.splits.roles import assign, count, groups, resolve

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


USUAL = {"ravdess": "split", "tess": "train"}
ALONE = {"ravdess": "split"}
BOTH = {"ravdess": "split", "tess": "split"}


def all_folds(clips, protocol, roles: dict = USUAL) -> list[dict[str, str]]:
    folds = range(count(clips, protocol, roles))
    return [assign(clips, protocol, roles, fold) for fold in folds]


def test_a_share_may_test_in_one_fold(clips):
    (splits,) = all_folds(clips, Random(test_size=0.25), ALONE)
    counts = Counter(splits.values())
    assert counts == {"test": 613, "val": 368, "train": 1471}  # 25 %, and 20 % of the rest


def test_a_small_corpus_that_is_split_is_parted_where_the_protocol_can(clips):
    tested = Counter(
        name
        for splits in all_folds(clips, Random(), BOTH)
        for name, split in splits.items()
        if split == "test"
    )
    assert tested == Counter(clip.clip for clip in clips)
    # Folds of named speakers draw none of a corpus that they do not name.
    luna = configured("luna5")
    assert all_folds(clips, luna, BOTH) == all_folds(clips, luna, USUAL)
    parted = [speakers_of(clips, splits, "tess") for splits in all_folds(clips, KFold(), BOTH)]
    tests = [[name for name, of in fold.items() if of == {"test"}] for fold in parted]
    assert sorted(name for names in tests for name in names) == ["OAF", "YAF"]


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
        drawn = {tuple(speakers(clips, assign(clips, one, ALONE), split)) for one in protocols}
        assert len(drawn) > 5


def test_a_fold_tests_a_sentence_that_was_not_heard(clips):
    tested = Counter()
    for splits in all_folds(clips, Statement(), ALONE):
        heard = {c.statement for c in ravdess(clips) if splits.get(c.clip) in ("train", "val")}
        assert heard == {"kids"}
        tested.update(c.clip for c in clips if splits.get(c.clip) == "test")
    assert tested == Counter(c.clip for c in ravdess(clips) if c.statement == "dogs")
    assert set(assign(clips, Statement(tested="kids"), ALONE).values()) == {"train", "val", "test"}


def test_one_corpus_tests_what_the_other_taught(clips):
    there, back = all_folds(clips, configured("cross_corpus"), BOTH)
    tess = {c.clip for c in clips if c.corpus == "tess"}
    assert {name for name, split in there.items() if split == "test"} == tess
    assert {name for name, split in back.items() if split == "test"} == {
        c.clip for c in ravdess(clips)
    }
    assert speakers(clips, there, "val") == ["05", "12", "19", "22"]
    assert speakers_of(clips, back, "tess") == {"OAF": {"train"}, "YAF": {"val"}}
    assert all_folds(clips, CrossCorpus(train=["ravdess"]), BOTH) == [there]
    assert all_folds(clips, CrossCorpus(test=["ravdess"]), BOTH) == [back]
    with pytest.raises(ValueError, match="leave no corpus of ravdess, tess to train"):
        assign(clips, CrossCorpus(test=["ravdess", "tess"]), BOTH)
    within = assign(clips, CrossCorpus(train=["ravdess"], test=["ravdess"]), ALONE)
    assert within == assign(clips, Holdout(), ALONE)
    for protocol, roles in ((CrossCorpus(), ALONE), (CrossCorpus(test=["iemocap"]), BOTH)):
        with pytest.raises(ValueError, match=r"needs clips of .*: there are 2452 of ravdess"):
            assign(clips, protocol, roles)


def test_each_of_three_corpora_is_tested_by_a_model_of_the_two_others(clips):
    third = [
        replace(clip, clip=f"own/{clip.name}", corpus="own")
        for clip in ravdess(clips)
        if int(clip.speaker) > 16
    ]
    every = [*clips, *third]
    folds = all_folds(every, CrossCorpus(), BOTH | {"own": "split"})
    tested = [{name.partition("/")[0] for name, s in fold.items() if s == "test"} for fold in folds]
    assert tested == [{"own"}, {"tess"}, {"ravdess"}]
    for fold in folds:
        assert len(fold) == len(every)
        val = {clip.voice: clip.gender for clip in every if fold[clip.clip] == "val"}
        assert not any(voice.startswith("tess/") for voice in val)  # too few to lose one
        if "own" in tested[2]:
            assert Counter(val.values()) == {"male": 2, "female": 2}


def test_speakers_of_several_corpora_are_spread_by_their_shares(clips):
    twins = [replace(clip, clip=f"own/{clip.name}", corpus="own") for clip in ravdess(clips)]
    every, roles = [*ravdess(clips), *twins], {"ravdess": "split", "own": "split"}
    for protocol in (Holdout(), KFold()):
        for splits in all_folds(every, protocol, roles):
            test = {(c.corpus, c.gender, c.speaker) for c in every if splits[c.clip] == "test"}
            shares = Counter((corpus, gender) for corpus, gender, _ in test)
            assert shares == dict.fromkeys(product(roles, ("male", "female")), 2)


def test_a_manifest_parts_its_own_clips(clips):
    given = dict(zip(("01", "02", "03"), ("train", "val", "test"), strict=True))
    mine = [replace(clip, given=given.get(clip.speaker, "")) for clip in ravdess(clips)]
    splits = assign(mine, Given(), ALONE)
    assert set(splits) == {clip.clip for clip in mine if clip.speaker in given}
    assert all(splits[c.clip] == given[c.speaker] for c in mine if c.clip in splits)
    assert (Given().leaky, Given(allow_leak=True).leaky) == (False, True)
    with pytest.raises(ValueError, match="protocol=given takes the column split of a manifest"):
        assign(clips, Given(), ALONE)


def test_random_keeps_the_shares_of_every_class_and_mixes_speakers(clips):
    tested = Counter()
    for splits in all_folds(clips, Random(), ALONE):
        shares = Counter(splits.values())
        assert shares["test"] == pytest.approx(0.2 * 2452, abs=1)
        assert shares["val"] == pytest.approx(0.2 * 0.8 * 2452, abs=1)
        for emotion in EMOTIONS:
            of_class = [splits[c.clip] for c in ravdess(clips) if c.emotion == emotion]
            assert of_class.count("test") == pytest.approx(0.2 * len(of_class), abs=2)
        assert speakers(clips, splits, "test") == speakers(clips, splits, "train")
        tested.update(name for name, split in splits.items() if split == "test")
    assert tested == Counter(c.clip for c in ravdess(clips))


def speakers_of(clips, splits: dict[str, str], corpus: str) -> dict[str, set[str]]:
    """By speaker, the splits that a corpus's clips are in."""
    found = defaultdict(set)
    for clip in clips:
        if clip.corpus == corpus:
            found[clip.speaker].add(splits.get(clip.clip, "off"))
    return dict(found)


@pytest.mark.parametrize("role", ["train", "val", "test", "off"])
def test_a_corpus_is_placed_by_its_role(clips, role: str):
    splits = assign(clips, Holdout(), {"ravdess": "split", "tess": role})
    assert speakers_of(clips, splits, "tess") == {"OAF": {role}, "YAF": {role}}
    alone = assign(ravdess(clips), Holdout(), {"ravdess": "split"})
    assert {clip: split for clip, split in splits.items() if clip in alone} == alone


def test_where_nothing_is_split_there_is_one_fold(clips):
    roles = {"ravdess": "train", "tess": "test"}
    (splits,) = all_folds(clips, KFold(), roles)
    assert Counter(splits.values()) == {"train": 2452, "test": 2800}


def test_the_two_speakers_of_a_corpus_are_two_folds(clips):
    roles = {"ravdess": "val", "tess": "split"}
    loso = NamedFolds("loso", val_speakers=0)
    to_oaf, to_yaf = all_folds(clips, loso, roles)
    assert speakers_of(clips, to_oaf, "tess") == {"OAF": {"test"}, "YAF": {"train"}}
    assert speakers_of(clips, to_yaf, "tess") == {"OAF": {"train"}, "YAF": {"test"}}
    named = NamedFolds("mine", [["tess/YAF"], ["tess/OAF"]], val_speakers=0)
    assert all_folds(clips, named, roles) == [to_yaf, to_oaf]
    assert set(speakers_of(clips, to_oaf, "ravdess")["01"]) == {"val"}


def test_roles_by_default():
    def roles(*names: str, protocol=None, **given: str) -> dict[str, str]:
        chosen = {name: CORPORA[name] for name in names}
        return resolve(given, chosen, protocol or Holdout())

    assert roles("ravdess", "tess") == {"ravdess": "split", "tess": "train"}
    assert roles("tess") == {"tess": "split"}  # alone
    assert roles("ravdess", "tess", ravdess="off") == {"ravdess": "off", "tess": "split"}
    assert roles("ravdess", "tess", tess="test") == {"ravdess": "split", "tess": "test"}
    across = roles("ravdess", "tess", protocol=CrossCorpus())
    assert across == {"ravdess": "split", "tess": "split"}
    assert roles("ravdess", tess="split") == {"ravdess": "split"}  # known, and not asked for
    luna = roles(
        "ravdess", "cremad", protocol=configured("luna5")
    )  # which names none of the latter
    assert luna == {"ravdess": "split", "cremad": "train"}
    assert roles("ravdess", "cremad") == {"ravdess": "split", "cremad": "split"}


def test_the_classes_that_corpora_in_their_roles_can_be_told_apart_by():
    emotions = {name: CORPORA[name].emotions for name in ("ravdess", "tess")}

    def lost(roles: dict[str, str], shared: bool = True) -> set[str]:
        kept = set.intersection(*groups(roles, CORPORA, shared))
        return set(emotions["ravdess"]) - kept

    assert lost({"ravdess": "split", "tess": "train"}) == set()
    assert lost({"tess": "split"}) == {"calm"}
    assert lost({"ravdess": "split", "tess": "split"}) == {"calm"}
    assert lost({"ravdess": "split", "tess": "split"}, shared=False) == set()
    assert lost({"ravdess": "train", "tess": "test"}, shared=False) == {"calm"}
    assert lost({"ravdess": "val", "tess": "split"}) == {"calm"}


def test_missing_speakers_shrink_a_fold_and_are_named(clips):
    luna = configured("luna5")
    gone = {"05", "14", "20"}
    few = [clip for clip in clips if clip.speaker not in gone]
    for fold, splits in enumerate(all_folds(clips, luna, ALONE)):
        shrunk = assign(few, luna, ALONE, fold)
        absent = {0: ["ravdess/05", "ravdess/14"], 2: ["ravdess/20"]}.get(fold, [])
        assert luna.missing(ravdess(few), fold) == absent
        assert luna.missing(ravdess(clips), fold) == []
        assert set(speakers(few, shrunk, "test")) == set(speakers(clips, splits, "test")) - gone
        # Who is missing moves no validator who is here.
        assert set(speakers(clips, splits, "val")) - gone <= set(speakers(few, shrunk, "val"))
    assert count(few, configured("loso"), ALONE) == 21
    for protocol in (configured("loso"), KFold(), Statement()):
        assert protocol.missing(ravdess(few), 0) == [f"ravdess/{name}" for name in sorted(gone)]
        assert protocol.missing(ravdess(clips), 0) == []


def test_an_empty_fold_is_an_error_with_the_counts(clips):
    few = [clip for clip in clips if clip.speaker in ("01", "02", "03", "04", "09", "22")]
    with pytest.raises(
        ValueError, match=r"fold 2 of protocol=luna5 is empty.*ravdess/10,.*6 speakers"
    ):
        assign(few, configured("luna5"), ALONE, 2)


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
        assign(clips, protocol, ALONE, fold)


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
    with pytest.raises(
        ValueError, match=r"at least 3 speakers, got \['ravdess/01', 'ravdess/02'\]"
    ):
        assign(two, Holdout(), USUAL)


def test_an_unbalanced_holdout_names_who_is_missing(clips):
    men = [clip for clip in ravdess(clips) if clip.gender == "male"]
    women = [f"ravdess/{speaker}" for speaker in SPEAKERS if int(speaker) % 2 == 0]
    assert Holdout().missing(men, 0) == women
    assert Holdout().missing(ravdess(clips), 0) == []
