import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from ser.audio.window import Window
from ser.data.datamodule import EmotionDataModule
from ser.features.frontend import FrontEnd
from ser.splits.protocols import CrossCorpus, Holdout, KFold, NamedFolds, Random, SplitProtocol

WINDOW = Window(3.0, {"ravdess": 1.0, "tess": 0.0, "other": "onset"})


@pytest.fixture
def data(demo: Path, cache: Path) -> EmotionDataModule:
    module = EmotionDataModule(str(demo), WINDOW, Holdout(), batch_size=32, cache=str(cache))
    module.setup("fit")
    module.release_test()
    return module


class Energy(FrontEnd):
    """A front end: (batch, samples) -> (batch, 1, 3, 10), in dB."""

    layout = "planes"

    def analyse(self, waveform: torch.Tensor) -> torch.Tensor:
        return waveform.reshape(len(waveform), 1, 3, 10, -1).square().mean(dim=-1)

    def finish(self, analysed: torch.Tensor) -> torch.Tensor:
        return 10 * analysed.clamp(min=1e-10).log10()


energy = Energy()


def test_every_clip_is_in_one_split_and_every_batch_is_whole(data: EmotionDataModule):
    assert sum(len(data.dataset(split, None)) for split in ("train", "val", "test")) == 616
    batches = list(data.scoring_loader("test"))
    rows = torch.cat([batch["row"] for batch in batches]).tolist()
    assert rows == data.table.index[data.table.split == "test"].tolist()
    first = batches[0]
    assert first["waveform"].shape == (32, 144000)
    assert first["waveform"].abs().max() <= 1
    names = [data.labels.classes[label] for label in first["label"]]
    assert names == data.table.label[first["row"].numpy()].tolist()


def test_cached_features_are_those_of_the_waveforms(data: EmotionDataModule):
    plain = list(data.val_dataloader())
    data.cache_features(energy, {})
    cached = list(data.val_dataloader())
    for before, after in zip(plain, cached, strict=True):
        assert torch.equal(energy(before["waveform"]), energy.of(after))
        assert torch.equal(before["label"], after["label"])
        assert "waveform" not in after
    assert "waveform" in next(iter(data.scoring_loader("test")))


def test_waveforms_held_on_a_device_are_those_of_the_memory_map(data: EmotionDataModule):
    plain = list(data.val_dataloader())
    data.hold_waveforms(torch.device("cpu"))
    for before, after in zip(plain, data.val_dataloader(), strict=True):
        assert torch.equal(before["waveform"], after["waveform"])


def test_balanced_weights_undo_the_class_balance(data: EmotionDataModule):
    counts = (
        data.table.label[data.table.split == "train"].value_counts()[data.labels.classes].to_numpy()
    )
    weighed = data.balanced_weights().numpy() * counts
    assert np.allclose(weighed, weighed[0])
    assert weighed.sum() == pytest.approx(counts.sum())


def test_an_epochs_order_is_a_function_of_seed_and_epoch(data: EmotionDataModule):
    def order(seed: int, epoch: int) -> list[int]:
        data.seed = seed
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)  # as Lightning does
        return list(loader.sampler)

    assert sorted(order(0, 0)) == list(range(len(data.dataset("train", None))))
    assert order(0, 3) == order(0, 3)
    assert order(0, 3) != order(0, 4)
    assert order(0, 3) != order(1, 3)


def test_a_selection_moves_no_speaker(demo: Path, cache: Path, data: EmotionDataModule):
    options = {"drop": ["sad", "calm"], "channels": ["speech"]}
    few = EmotionDataModule(str(demo), WINDOW, Holdout(), cache=str(cache), **options)
    few.setup("fit")
    assert [*few.reader.waveforms.blocks()] == [*data.reader.waveforms.blocks()]
    assert few.audit["speakers"] == data.audit["speakers"]
    assert (few.table.split == data.table.split[few.table.index]).all()
    assert set(few.table.channel) == {"speech"}
    assert few.labels.classes == ["neutral", "happy", "angry", "fearful", "disgust", "surprised"]


@pytest.fixture
def fresh(demo: Path, cache: Path) -> Callable[..., EmotionDataModule]:
    def make(root: Path = demo, protocol: SplitProtocol | None = None, **options: object):
        protocol = protocol or Holdout()
        return EmotionDataModule(str(root), WINDOW, protocol, cache=str(cache), **options)

    return make


def test_a_test_clip_is_withheld_until_the_model_is_final(fresh):
    data = fresh()
    data.setup("fit")
    data.cache_features(energy, {})
    test = data.table.index[data.table.split == "test"].to_numpy()
    for read in (data.reader.read_waveforms, data.reader.read_fastest):
        for rows in (test[:1], data.table.index.to_numpy()):
            with pytest.raises(ValueError, match="test clips were asked for before the model"):
                read(rows)
    assert len(data.training_features(energy)[1]) == (data.table.split == "train").sum()
    list(data.scoring_loader("val"))
    data.release_test()
    assert len(data.reader.read_waveforms(test[:2])["waveform"]) == 2


def test_a_clip_is_heard_as_the_model_hears_it_without_the_padding(fresh):
    data = fresh()
    data.setup("fit")
    tested = data.table[data.table.split == "test"].iloc[0]
    with pytest.raises(ValueError, match="test clips were asked for before the model"):
        data.hear(tested["clip"])
    data.release_test()
    heard, rate = data.hear(tested["clip"])
    read = data.reader.read_waveforms(np.array([tested.name]))["waveform"].numpy()[0] * 32768
    assert rate == 48000
    assert 0 < len(heard) < len(read)
    assert np.array_equal(heard, read[: len(heard)])
    assert not read[len(heard) :].any()


def test_a_speaker_is_standardised_by_all_his_clips(fresh):
    data = fresh(normalize="speaker")
    data.setup("fit")
    data.cache_features(energy, {})
    data.release_test()
    assert data.split_info().transductive
    for speaker in ("01", "02", "OAF"):
        rows = data.table.index[data.table.speaker == speaker].to_numpy()
        features = data.reader.read_fastest(rows)["features"].numpy()
        assert np.abs(features.mean(axis=(0, 3))).max() < 1e-3
        assert np.abs(features.std(axis=(0, 3)) - 1).max() < 1e-3
    assert "features" in next(iter(data.scoring_loader("test")))


def test_the_hash_follows_the_protocol_and_nothing_else(fresh):
    def stamp(protocol: SplitProtocol, **options: object) -> str:
        return fresh(protocol=protocol, **options).split_info().protocol_hash

    same = stamp(KFold())
    assert stamp(KFold(), drop=["sad"], fold=3) == same
    others = [
        stamp(KFold(seed=1)),
        stamp(KFold(folds=5)),
        stamp(KFold(), roles={"tess": "test"}),
        stamp(Holdout()),
        stamp(NamedFolds("kfold", [[1], [2]])),
    ]
    assert len({same, *others}) == 6


def test_roles_are_in_the_name_and_hash_where_they_decide_what_is_tested(fresh):
    def stamps(protocol: SplitProtocol, roles: dict | None, *corpora: str) -> tuple[str, str]:
        data = fresh(protocol=protocol, roles=roles, corpora=corpora or ["ravdess", "tess"])
        return data.split_info().protocol, data.split_info().protocol_hash

    parted, apart = stamps(Random(), {"tess": "split"}), stamps(Random(), None)
    assert (parted[0], apart[0]) == ("random, tess split", "random")
    assert parted[1] != apart[1]
    assert stamps(Random(), {"tess": "split"}, "ravdess") == apart
    assert stamps(Holdout(), {"tess": "off"}) == stamps(Holdout(), {"tess": "train"})
    assert stamps(KFold(folds=2, val_speakers=0), None, "tess") != stamps(
        KFold(folds=2, val_speakers=0), None, "ravdess"
    )


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        (
            {"protocol": NamedFolds("pairs", [[1, 3], [2, 4]])},
            "expected data.target=emotion, or a protocol whose",
        ),
        ({"channels": ["song"]}, r"with data.drop=\[disgust,surprised\], or select other data"),
    ],
)
def test_a_class_of_emotion_and_gender_that_no_one_speaks_gets_the_advice_that_helps(
    fresh, options: dict, advice: str
):
    with pytest.raises(ValueError, match=rf"no \w+ clips of \w+_(fe)?male, .*\): .*{advice}"):
        fresh(target="emotion_gender", **options).splits.check()


def test_a_channel_that_is_not_there_is_named(
    fresh, demo: Path, few: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    root = tmp_path / "song"
    shutil.copytree(few, root)
    for path in demo.rglob("03-02-01-01-02-01-*.wav"):
        if path.parent.name != "Actor_02":
            shutil.copy(path, root)
    fresh(root, NamedFolds("pairs", [[1, 2], [3, 4]])).setup("fit")
    assert "test lacks the song of speakers ravdess/02" in caplog.text


def test_the_same_samples_in_another_name_and_container_are_refused(
    fresh, few: Path, tmp_path: Path
):
    root = tmp_path / "copied"
    shutil.copytree(few, root)
    data = fresh(root)
    data.setup("fit")
    trained = data.table[(data.table.split == "train") & (data.table.corpus == "ravdess")].iloc[0]
    tested = data.table[data.table.split == "test"].iloc[0]
    samples, rate = soundfile.read(root / trained.path, dtype="int16")
    (root / tested.path).unlink()
    soundfile.write((root / tested.path).with_suffix(".flac"), samples, rate)
    names = sorted([Path(trained.path).stem, Path(tested.path).stem])
    with pytest.raises(ValueError, match=f"{names[0]}.*{names[1]}.*hold the same samples"):
        fresh(root).setup("fit")


def test_an_identical_pair_is_reported_under_a_random_split(fresh, few: Path, tmp_path: Path):
    root = tmp_path / "paired"
    shutil.copytree(few, root)
    one, other = (
        next(root.rglob(f"03-01-03-{intensity}-02-01-07.wav")) for intensity in ("01", "02")
    )
    shutil.copy(one, other)
    pair = [one.name, other.name]
    crossed = 0
    for fold in range(5):
        data = fresh(root, Random(), fold=fold)
        data.setup("fit")
        sides = set(data.table.split[data.table.path.str.contains("03-01-03-0.-02-01-07")])
        assert data.audit["samples_repeated"] == [pair]
        assert data.audit["samples_shared"] == ([pair] if len(sides) == 2 else [])
        assert not data.audit["passed"]
        crossed += len(sides) == 2
    assert crossed


def test_merged_clips_are_of_one_class_and_nobody_moves(fresh):
    whole, merged = fresh(), fresh(merge={"calm": "neutral"})
    for data in (whole, merged):
        data.setup("fit")
    assert merged.labels.classes == [name for name in whole.labels.classes if name != "calm"]
    assert merged.table.emotion.equals(whole.table.emotion)
    assert merged.table.split.equals(whole.table.split)
    assert set(merged.table.emotion[merged.table.label == "neutral"]) == {"neutral", "calm"}
    neutral = whole.table.label.isin(["neutral", "calm"])
    assert merged.dataset("train", None).labels.max() == 6
    assert (merged.table.label == "neutral").equals(neutral)


@pytest.fixture
def damaged(few: Path, tmp_path: Path) -> tuple[Path, list[str]]:
    """The corpus with a clip cut off, one of text and a link to nothing, of speakers 01 and 02."""
    root = tmp_path / "damaged"
    shutil.copytree(few, root)
    cut, text, link = sorted((root / "Actor_01").glob("03-01-0[358]*"))[:3]
    cut.write_bytes(cut.read_bytes()[:-100])
    text.write_text("no audio")
    link.unlink()
    link.symlink_to(root / "nowhere.wav")
    return root, [f"Actor_01/{path.name}" for path in (cut, text, link)]


def test_unreadable_clips_are_all_listed_and_stop_the_run(
    fresh, damaged: tuple[Path, list[str]], caplog: pytest.LogCaptureFixture
):
    root, names = damaged
    message = rf"3 of 232 recordings below .*{names[0]}: is cut off: .*{names[2]}.*on_error=skip"
    for _ in range(2):  # the second time from the cache
        caplog.clear()
        with pytest.raises(ValueError, match=message):
            fresh(root).setup("fit")
        listed = [text for text in caplog.messages if text.startswith("not read: ")]
        assert [text.split(": ")[1] for text in listed] == names


def test_unreadable_clips_are_left_out_before_anything_is_parted(
    fresh, few: Path, damaged: tuple[Path, list[str]]
):
    root, names = damaged
    data = fresh(few)
    data.setup("fit")
    data.release_test()
    skipped = fresh(root, on_error="skip")
    assert skipped.splits.count() == 1  # before setup
    skipped.setup("fit")
    skipped.release_test()
    assert list(skipped.audit["unreadable"]) == names
    assert skipped.audit["unreadable"][names[1]] == "not readable as audio (Format not recognised.)"
    assert data.audit["unreadable"] == {}
    expected = data.table[~data.table.path.isin(names)].reset_index(drop=True)
    assert skipped.table.reset_index(drop=True).equals(expected)
    assert len(skipped.reader.waveforms) == 229
    ((rows, key),) = skipped.reader.waveforms.blocks()
    assert (rows, key != skipped.reader.waveforms.stores[0].key) == (slice(0, 229), True)
    for row in skipped.table.index[::50]:
        path = skipped.table.path[row]
        (other,) = data.table.index[data.table.path == path]
        assert np.array_equal(skipped.reader.waveforms[row], data.reader.waveforms[other])

    (root / names[2]).unlink()
    shutil.copy(next(root.glob("Actor_01/*-01.wav")), root / "nowhere.wav")
    (root / names[2]).symlink_to(root / "nowhere.wav")  # it is there again
    assert list(fresh(root, on_error="skip").decoded.unreadable) == names[:2]


def test_across_corpora_the_classes_are_those_that_both_hold(
    fresh, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    data = fresh(protocol=CrossCorpus(), drop=["sad"])
    data.setup("fit")
    assert data.labels.classes == ["neutral", "happy", "angry", "fearful", "disgust", "surprised"]
    assert "tess has no clips of calm; left out: calm" in caplog.text
