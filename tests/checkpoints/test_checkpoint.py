import signal
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from hydra.errors import InstantiationException

from ser.checkpoints.format import Recipe, load_checkpoint
from ser.checkpoints.source import open_data
from ser.config.split_info import SplitInfo


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small classifier, as Lightning and Recipe write it."""
    from ser.training.classifier import EmotionClassifier

    frontend = {"_target_": "ser.features.spectral.LogMel", "bins": 8, "n_fft": 512}
    network = {"_target_": "ser.models.cnn.CNN", "widths": [4]}
    model = EmotionClassifier(["calm", "sad"], frontend, network, {"_target_": "torch.optim.Adam"})
    content = {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "epoch": 0,
    }
    window = {"_target_": "ser.audio.window.Window", "seconds": 3.0, "start": "onset"}
    data = {
        "_target_": "ser.data.datamodule.EmotionDataModule",
        "root": "data",
        "window": window,
        "protocol": {"_target_": "ser.splits.protocols.Holdout"},
        "drop": ["happy"],
    }
    recipe = {key: value for key, value in model.hparams.items() if key != "classes"}
    target = "ser.training.classifier.EmotionClassifier"
    config = {"data": data, "model": {"_target_": target, **recipe}}
    split = pd.DataFrame({"split": ["test"], "sha256": ["0"]}, pd.Index(["a"], name="clip"))
    info = SplitInfo("holdout", 1, "0", fold=0, folds=1, leaky=False, transductive=False)
    Recipe(config, split, info).on_save_checkpoint(None, None, content)
    path = tmp_path_factory.mktemp("checkpoint") / "best.ckpt"
    torch.save(content, path)
    return path


def altered(saved: Path, folder: Path, change: Callable[[dict], None]) -> Path:
    content = torch.load(saved, weights_only=True)
    change(content)
    torch.save(content, folder / "altered.ckpt")
    return folder / "altered.ckpt"


def test_a_checkpoint_builds_its_own_model(saved: Path):
    loaded = load_checkpoint(saved)
    weights = torch.load(saved, weights_only=True)["state_dict"]
    assert all(
        torch.equal(value, weights[name]) for name, value in loaded.model.state_dict().items()
    )
    assert not loaded.model.training
    assert loaded.model.classes == ["calm", "sad"]
    assert loaded.split["split"].to_dict() == {"a": "test"}


def test_clips_of_format_2_get_their_corpus(saved: Path, tmp_path: Path):
    names = ["03-01-05-01-02-01-16", "OAF_back_angry", "no clip"]

    def before(content: dict) -> None:
        split = {"name": names, "split": ["train", "val", "test"], "sha256": ["0", "1", "2"]}
        content["ser"] |= {"format": 2, "split": split}

    split = load_checkpoint(altered(saved, tmp_path, before)).split
    assert split.index.to_list() == [f"ravdess/{names[0]}", f"tess/{names[1]}", "no clip"]
    assert split.split.to_list() == ["train", "val", "test"]
    assert split.sha256.to_list() == ["0", "1", "2"]


def put(*keys: str | int) -> Callable[[dict, object], None]:
    """Give what replaces the value at these keys."""

    def change(content: dict, value: object) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


DATA, ARGUMENTS = ("ser", "config", "data"), ("hyper_parameters",)
PLACES = [
    (*ARGUMENTS, "network"),
    (*ARGUMENTS, "network", "widths"),
    (*ARGUMENTS, "network", "dropout"),
    (*ARGUMENTS, "frontend"),
    (*ARGUMENTS, "frontend", "bins"),
    (*ARGUMENTS, "optimizer"),
    (*ARGUMENTS, "scheduler"),
    (*ARGUMENTS, "augment"),
    (*ARGUMENTS, "estimator"),
    (*DATA, "root"),
    (*DATA, "window", "start"),
    (*DATA, "protocol"),
    (*DATA, "drop"),
    ("ser", "config", "model", "network"),
]


@pytest.mark.parametrize(
    "target",
    [
        "torch.utils.collect_env.run",
        "torch.hub.load",
        "torch.nn.modules.module.warnings.warn",  # through a module's own imports
        "torch.nn.functional.relu",
        "torch.optim.optimizer.os.system",
        "ser.experiment.Path",
        "joblib.Parallel",
        "ser.corpora.demo.write",
        "ser.experiment.train",
        "os.system",
        "builtins.eval",
        "functools.partial",
        "hydra.utils.get_method",
        "sklearn.utils.fixes.parse_version",
        ["os.system"],
        {"_target_": "os.system"},
        None,
    ],
)
def test_code_outside_the_list_is_refused_at_any_depth(saved: Path, tmp_path: Path, target: object):
    mark = tmp_path / "ran"
    node = {"_target_": target, "_args_": [f"touch {mark}"]}
    forms = (node, node | {"_partial_": True}, [{"more": {"deeper": [node]}}])
    everywhere = target in ("torch.utils.collect_env.run", "torch.hub.load")
    for place in PLACES if everywhere else PLACES[1:11:9]:
        for planted in forms if everywhere else forms[2:]:
            path = altered(saved, tmp_path, partial(put(*place), value=planted))
            with pytest.raises(ValueError, match="no code of it was run"):
                load_checkpoint(path)
    assert not mark.exists()


@pytest.mark.parametrize("place", ["data", "arguments"])
def test_a_resolver_is_refused_before_it_resolves(saved: Path, tmp_path: Path, place: str):
    planted = "${oc.create:{_target_:builtins.print,_args_:[ran]}}"

    def plant(content: dict) -> None:
        if place == "data":
            content["ser"]["config"]["data"]["window"] = planted
        else:
            content["hyper_parameters"]["frontend"]["bins"] = planted

    with pytest.raises(ValueError, match=r"asks to resolve|expected a recipe"):
        load_checkpoint(altered(saved, tmp_path, plant))


def test_only_the_two_classifiers_are_models(saved: Path, tmp_path: Path):
    def plant(content: dict) -> None:
        content["ser"]["config"]["model"]["_target_"] = "torch.nn.Linear"

    with pytest.raises(ValueError, match=r"asks to build 'torch\.nn\.Linear' as model"):
        load_checkpoint(altered(saved, tmp_path, plant))


def test_a_checkpoint_without_a_part_is_one_line(saved: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="no checkpoint of ser"):
        load_checkpoint(altered(saved, tmp_path, lambda content: content["ser"].pop("config")))
    with pytest.raises(ValueError, match=r"depth=3, which .*EmotionClassifier does not take"):
        load_checkpoint(
            altered(saved, tmp_path, lambda content: content["hyper_parameters"].update(depth=3))
        )


@pytest.mark.parametrize("planted", [None, [1, 2], torch.zeros(9, dtype=torch.uint8)])
def test_an_estimator_that_is_no_bytes_of_one_is_one_line(
    saved: Path, tmp_path: Path, planted: object
):
    def plant(content: dict) -> None:
        recipe = {
            "frontend": {"_target_": "ser.features.functionals.Functionals"},
            "estimator": {"_target_": "sklearn.svm.SVC"},
        }
        target = {"_target_": "ser.training.estimator.EstimatorClassifier"}
        content["ser"]["config"]["model"] = target | recipe
        content["hyper_parameters"] = {"classes": ["calm", "sad"], **recipe}
        content["estimator"] = planted

    with pytest.raises(
        ValueError, match=r"cannot be built or filled|is not what skops writes|no tensor"
    ):
        load_checkpoint(altered(saved, tmp_path, plant))


def test_foreign_files_are_one_line(saved: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="not a file"):
        load_checkpoint(tmp_path / "absent.ckpt")
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    with pytest.raises(ValueError, match="no checkpoint of ser"):
        load_checkpoint(tmp_path / "text.ckpt")
    (tmp_path / "empty.ckpt").touch()
    with pytest.raises(ValueError, match=r"no checkpoint of ser \(.+\)"):
        load_checkpoint(tmp_path / "empty.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="no checkpoint of ser"):
        load_checkpoint(tmp_path / "other.ckpt")
    torch.save({"ser": print}, tmp_path / "pickle.ckpt")
    with pytest.raises(ValueError, match="no checkpoint of ser"):
        load_checkpoint(tmp_path / "pickle.ckpt")


def test_another_format_or_shape_says_who_wrote_it(saved: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"format 99.*written by ser"):
        load_checkpoint(altered(saved, tmp_path, lambda content: content["ser"].update(format=99)))

    def widen(content: dict) -> None:
        content["hyper_parameters"]["network"]["widths"] = [6]

    with pytest.raises(
        ValueError, match=r"12 differ, such as network.*\[4, 4, .* instead of \[6, 6,"
    ):
        load_checkpoint(altered(saved, tmp_path, widen))


@pytest.fixture
def quickly() -> Iterator[None]:
    """Ends a test that takes more than ten seconds."""

    def stop(*_: object) -> None:
        raise AssertionError("it takes more than 10 s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def nested(levels: int) -> list:
    """A list of two, each of them the same list of two, and so on: small in a file."""
    return [] if levels == 0 else [nested(levels - 1)] * 2


def endless() -> dict:
    node = {}
    node["again"] = node
    return node


MISFITS = {
    "many classes": ((*ARGUMENTS, "classes"), 10**9, "not two or more"),
    "one class": ((*ARGUMENTS, "classes"), ["calm"], "not two or more"),
    "a class twice": ((*ARGUMENTS, "classes"), ["calm", "calm"], "not two or more"),
    "more classes": ((*ARGUMENTS, "classes"), ["calm", "sad", "happy"], "other weights"),
    "wide": ((*ARGUMENTS, "network", "widths"), [10**8], "widths=.100000000.: expected at most"),
    "rather wide": ((*ARGUMENTS, "network", "widths"), [16384] * 8, "other weights"),
    "bins": ((*ARGUMENTS, "frontend", "bins"), 10**8, "bins=100000000: expected at most"),
    "frames": ((*ARGUMENTS, "frontend", "n_fft"), 2**40, "n_fft=.*expected at most"),
    "no widths": ((*ARGUMENTS, "network", "widths"), None, "widths=None: expected a list"),
    "another network": ((*ARGUMENTS, "network", "_target_"), "torch.nn.Linear", "asks to build"),
    "partial": ((*ARGUMENTS, "network", "_partial_"), True, "does not take"),
    "arguments": ((*ARGUMENTS, "network", "_args_"), [1, 2, 3], "does not take"),
    "no arguments": (ARGUMENTS, [], "no checkpoint"),
    "missing": ((*ARGUMENTS, "frontend", "bins"), "???", "asks to resolve"),
    "laughs": ((*DATA, "drop"), nested(25), "more than 10000 values"),
    "endless": ((*DATA, "drop"), endless(), "more than 10000 values"),
    "no state": (("state_dict",), [], "cannot be built"),
    "no tensor": (("state_dict", "network.head.1.bias"), 3, "no tensor"),
    "claimed": (("state_dict", "network.head.1.bias"), torch.zeros(1).expand(2**40), "no tensor"),
    "meta": (
        ("state_dict", "network.head.1.bias"),
        torch.zeros(2**40, device="meta"),
        "expected tensors",
    ),
    "sparse": (
        ("state_dict", "network.head.1.bias"),
        torch.eye(2).to_sparse(),
        "no tensor|no checkpoint",
    ),
    "split": (("ser", "split", "split"), ["test", "val"], "no checkpoint"),
    "another split": (("ser", "split", "split"), ["all"], "none of train, val and test"),
    "numbers": (("ser", "split", "sha256"), [3], "other than text"),
    "twice": (("ser", "split"), {"clip": "aa", "split": ["val"] * 2, "sha256": "aa"}, "no check"),
    "stamps": (("ser", "stamps"), [], "no checkpoint"),
    "a stamp": (("ser", "stamps", "leaky"), "no", "leaky are of another type"),
    "a pool": (("ser", "stamps", "fold"), "all", "fold are of another type"),
    "a stamp to print": (("ser", "stamps", "protocol"), "\x1b[2J", "protocol are of another type"),
    "epoch": (("epoch",), "last", "epoch is of another type"),
    "versions": (("ser", "versions"), None, "no checkpoint"),
    "root": ((*DATA, "root"), 3, "root=3: expected text"),
    "data": ((*DATA, "_target_"), "ser.audio.window.Window", "asks to build"),
    "window": ((*DATA, "window", "_target_"), "torch.nn.Linear", "asks to build"),
    "long": ((*DATA, "window", "seconds"), 1e9, "expected at most"),
    "protocol": ((*DATA, "protocol", "_target_"), "ser.audio.window.Window", "asks to build"),
    "no protocol": ((*DATA, "protocol"), {"name": "holdout"}, "asks to build None"),
    "no window": ((*DATA, "window", "seconds"), -1, "more than 0"),
    "a letter": ((*DATA, "window", "seconds"), "a", "a number"),
}


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize(("place", "value", "words"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_is_one_line(
    saved: Path, tmp_path: Path, place: tuple, value: object, words: str
):
    path = altered(saved, tmp_path, lambda content: put(*place)(content, value))
    with pytest.raises(ValueError, match=words) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def keys_of(node: Mapping, path: tuple = ()) -> Iterator[tuple]:
    for key, child in node.items():
        yield (*path, key)
        if isinstance(child, Mapping):
            yield from keys_of(child, (*path, key))


@pytest.mark.usefixtures("quickly")
def test_a_missing_key_is_one_line_wherever_it_is(saved: Path, tmp_path: Path):
    whole = torch.load(saved, weights_only=True)
    # The rest has defaults, or is checked when the data are built.
    optional = {
        "overrides",
        "calibration",
        "drop",
        "torch",
        "torchaudio",
        "soxr",
        "bins",
        "n_fft",
        "start",
    }
    optional |= {"protocol", "channel", "f_min", "f_max", "floor_db", "level", "n_mels"}
    optional |= {"scheduler", "augment", "label_smoothing", "class_weights", "autocast", "seed"}
    for place in keys_of(whole):
        *parents, key = place

        def forget(content: dict, parents=parents, key=key) -> None:
            for parent in parents:
                content = content[parent]
            del content[key]

        if (key not in optional and "optimizer" not in parents) or "stamps" in parents:
            with pytest.raises(ValueError, match=r"^ckpt=[^\n]+$"):
                load_checkpoint(altered(saved, tmp_path, forget))


@pytest.mark.parametrize("share", [0.001, 0.5, 0.99, 0.9999])
def test_a_truncated_file_is_one_line(saved: Path, tmp_path: Path, share: float):
    content = saved.read_bytes()
    (tmp_path / "half.ckpt").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="no checkpoint of ser"):
        load_checkpoint(tmp_path / "half.ckpt")


def repacked(path: Path, records: Iterator[tuple[str, bytes]]) -> Path:
    """Write records as torch does, with the directory where torch has it."""
    writer = torch._C.PyTorchFileWriter(str(path))
    for name, content in records:
        writer.write_record(name, content, len(content))
    writer.write_end_of_file()
    return path


@pytest.mark.parametrize(
    ("pickled", "words"),
    [
        (b"cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x02\x85R.", "it names .* bytearray"),
        (b"(K\x01K\x02\x86q\x00h\x00\x86.", "uses a tuple twice"),
        (b"}" * 100 + b".", "operations"),
    ],
)
def test_a_pickle_of_more_than_tensors_is_refused(
    pickled: bytes, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """`weights_only` lets a pickle ask for a bytearray of any size."""
    monkeypatch.setattr("ser.config.tensor_files.OPERATIONS", 99)
    path = repacked(tmp_path / "planted.ckpt", [("data.pkl", b"\x80\x02" + pickled)])
    with pytest.raises(ValueError, match=words):
        load_checkpoint(path)


def test_what_torch_and_zipfile_read_otherwise_is_refused(saved: Path, tmp_path: Path):
    with zipfile.ZipFile(saved) as sound:
        records = {name.partition("/")[2]: sound.read(name) for name in sound.namelist()}
    records = {name: record for name, record in records.items() if name[0] != "."}
    del records["version"]  # what the writer adds
    assert load_checkpoint(repacked(tmp_path / "as_it_was.ckpt", records.items()))
    shouted = records | {"DATA.PKL": records["data.pkl"]}
    with pytest.raises(ValueError, match="names that torch does not write"):
        load_checkpoint(repacked(tmp_path / "shouted.ckpt", shouted.items()))
    # Two directories: zipfile looks before the end, torch where the end says.
    content = saved.read_bytes()
    (tmp_path / "longer.ckpt").write_bytes(content[:-98] + bytes(98) + content[-98:])
    with pytest.raises(ValueError, match="not where torch writes it"):
        load_checkpoint(tmp_path / "longer.ckpt")
    (tmp_path / "commented.ckpt").write_bytes(content[:-2] + b"\x01\x00!")
    with pytest.raises(ValueError, match="begin and end as torch"):
        load_checkpoint(tmp_path / "commented.ckpt")


def test_a_file_that_grows_when_it_is_read_is_refused(saved: Path, tmp_path: Path):
    content = torch.load(saved, weights_only=True)
    content["state_dict"]["large"] = torch.zeros(10**7)
    torch.save(content, tmp_path / "large.ckpt")
    with (
        zipfile.ZipFile(tmp_path / "large.ckpt") as large,
        zipfile.ZipFile(tmp_path / "packed.ckpt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in large.namelist():
            packed.writestr(name, large.read(name))
    assert (tmp_path / "packed.ckpt").stat().st_size < 1e6
    with pytest.raises(ValueError, match=r"packed or overlap|begin and end as torch"):
        load_checkpoint(tmp_path / "packed.ckpt")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, r"tells \['calm', 'sad'\] apart, but its data have the classes \['neutral', 'calm'"),
        ({"colour": 3}, r"colour=3, which .*EmotionDataModule does not take"),
        ({"drop": 3}, "drop=3: expected a list"),
        ({"cache_max_gb": -1}, "cache_max_gb=-1: expected more than 0"),
        ({"cache_max_gb": 1e-9, "drop": ["grief"]}, "grief"),  # it may not say what is deleted
    ],
)
def test_data_that_do_not_fit_are_one_line(saved: Path, tmp_path: Path, change: dict, words: str):
    path = altered(saved, tmp_path, lambda content: content["ser"]["config"]["data"].update(change))
    with pytest.raises((ValueError, InstantiationException), match=words):
        open_data(load_checkpoint(path), str(tmp_path), str(tmp_path), "test")
