"""Recipes of strangers, altered at random: nothing of theirs runs, and each refusal is one line."""

import copy
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType

import pytest
from hydra._internal.instantiate import _instantiate2
from hydra.utils import get_class

from ser.checkpoints import trust
from ser.checkpoints.format import FORMAT, build_checkpoint
from ser.config.split_info import SplitInfo
from ser.launch.resume import check_recipe
from ser.training.estimator import EstimatorClassifier

ROUNDS = pytest.mark.parametrize(
    "rounds", [200, pytest.param(int(os.environ.get("FUZZ", "1000")), marks=pytest.mark.slow)]
)
"""Of each sound checkpoint, from the same seed; 50,000 take about ten minutes."""

KNOWN = {name for slot in trust.SLOTS.values() for name in slot}

WRITERS = ("trainer", "callbacks", "logger")

PROTOCOL = {"_target_": "ser.splits.protocols.KFold", "folds": 3, "seed": 1}
WINDOW = {
    "_target_": "ser.audio.window.Window",
    "seconds": 3.0,
    "start": {"ravdess": 1.0, "tess": 0.0, "other": "onset"},
}
DATA = {
    "_target_": "ser.data.datamodule.EmotionDataModule",
    "root": {"_target_": "ser.corpora.demo.build", "seed": 0},
    "protocol": PROTOCOL,
    "window": WINDOW,
    "drop": ["happy"],
    "merge": {"calm": "neutral"},
    "batch_size": 8,
    "_convert_": "all",
}
NETWORK = {
    "frontend": {"_target_": "ser.features.spectral.LogMel", "bins": 8, "n_fft": 512},
    "network": {"_target_": "ser.models.cnn.CNN", "widths": [4, 4], "dropout": 0.1},
    "augment": {"_target_": "ser.features.augment.SpecAugment", "time_masks": 1},
    "optimizer": {"_target_": "torch.optim.Adam", "lr": 1e-3, "betas": [0.9, 0.999]},
    "scheduler": {"_target_": "torch.optim.lr_scheduler.ConstantLR", "factor": 1.0},
    "seed": 3,
}
ESTIMATOR = {
    "frontend": {"_target_": "ser.features.functionals.Functionals", "bins": 4, "n_mels": 16},
    "estimator": {
        "_target_": "sklearn.pipeline.make_pipeline",
        "_args_": [
            {"_target_": "sklearn.preprocessing.StandardScaler"},
            {
                "_target_": "sklearn.ensemble.VotingClassifier",
                "voting": "soft",
                "estimators": [
                    ["a", {"_target_": "sklearn.linear_model.LogisticRegression", "C": 0.1}],
                    ["b", {"_target_": "sklearn.linear_model.LogisticRegression"}],
                ],
            },
        ],
    },
    "seed": 3,
}
RUN = {
    "name": "default",
    "seed": 0,
    "fold": 0,
    "objective": "val/uar",
    "folder": "/runs/one",
    "cache": {"dir": None, "max_gb": 20},
    "trainer": {
        "_target_": "lightning.Trainer",
        "max_epochs": 3,
        "default_root_dir": "/runs/one",
        "plugins": [{"_target_": "ser.checkpoints.atomic_io.WholeFiles"}],
    },
    "callbacks": {
        "best": {
            "_target_": "lightning.pytorch.callbacks.ModelCheckpoint",
            "dirpath": "/runs/one/checkpoints",
            "monitor": "val/uar",
        }
    },
    "logger": {"csv": {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": "/runs/one"}},
}


def sound(target: str, recipe: dict) -> dict:
    """Give the content of a checkpoint as `ser.checkpoints.format.read_content` would."""
    model = get_class(target)(["calm", "sad"], **recipe)
    info = SplitInfo("holdout", 1, "0", 0, 1, leaky=False, transductive=False)
    content = {
        "epoch": 0,
        "state_dict": model.state_dict(),
        "hyper_parameters": {"classes": ["calm", "sad"], **recipe},
        "ser": {
            "format": FORMAT,
            "config": {**RUN, "data": DATA, "model": {"_target_": target, **recipe}},
            "split": {"clip": ["a"], "split": ["test"], "sha256": ["0"]},
            "stamps": asdict(info),
            "overrides": [],
            "versions": {"ser": "0"},
        },
    }
    for part in getattr(model, "members", [model]):
        if isinstance(part, EstimatorClassifier):
            features = random_features(60, part.frontend.features)
            part.fit_estimator(features, (features[:, 0] > 0).astype(int))
    model.on_save_checkpoint(content)
    return content


def random_features(clips: int, features: int) -> object:
    import numpy as np

    return np.random.default_rng(0).normal(size=(clips, features)).astype(np.float32)


def importable() -> list[str]:
    """List every class and function of the modules that are loaded."""
    names = set()
    for path, module in list(sys.modules.items()):
        if not isinstance(module, ModuleType):
            continue
        for name, value in list(vars(module).items()):
            # By its type: some deprecated names warn of themselves when they are asked.
            if issubclass(type(value), type | FunctionType | BuiltinFunctionType):
                names.add(f"{path}.{name}")
    return sorted(names)


def targets(node: object) -> Iterator[str]:
    """Yield what plain containers name to be built, at any depth."""
    if isinstance(node, dict):
        yield from [str(node["_target_"])] if "_target_" in node else []
        node = list(node.values())
    for child in node if isinstance(node, list | tuple) else ():
        yield from targets(child)


def endless() -> list:
    node = []
    node.append(node)
    return node


def junk(generator: random.Random, names: list[str], mark: Path) -> object:
    """Give a value that somebody might plant."""
    name = generator.choice(names)
    call = f"open({str(mark)!r}, 'w')"
    return generator.choice(
        [
            lambda: {"_target_": name},
            lambda: {"_target_": name, "_args_": [str(mark), "w"]},
            lambda: {"_target_": generator.choice(sorted(KNOWN))},
            lambda: {"_target_": "builtins.eval", "_args_": [call]},
            lambda: {"_target_": "torch.utils.collect_env.run", "_args_": [f"touch {mark}"]},
            lambda: {"_target_": "ser.audio.containers._Stream", "file": str(mark), "mode": "w"},
            lambda: {"_target_": "ser.corpora.demo.build", "directory": str(mark)},
            lambda: {"_target_": "torch.nn.Linear", "in_features": 40000, "out_features": 40000},
            lambda: {
                "_target_": "torch.nn.attention.flex_attention.FlexKernelOptions",
                "_args_": [[["_target_", "builtins.eval"], ["_args_", [call]]]],
            },
            lambda: "${oc.create:{_target_:builtins.print}}",
            lambda: generator.choice([10**9, 2**40, 10**30, -1, 0, 1e300, float("nan"), True]),
            lambda: generator.choice(["", "abc", "\n\x1b[2J", "../../x", "/etc/x", "x" * 10**5]),
            lambda: generator.choice([None, [], {}, [[]], [None] * 3, {"a": {"b": 1}}, endless()]),
            lambda: [generator.choice([16384, 4096, 1024])] * generator.randint(1, 9),
        ]
    )()


def places(node: object, path: tuple = ()) -> Iterator[tuple]:
    """Yield the path of each value of nested containers."""
    children = node.items() if isinstance(node, dict) else enumerate(node)
    for key, child in children:
        yield (*path, key)
        if isinstance(child, dict | list) and len(path) < 12:
            yield from places(child, (*path, key))


def mutate(content: dict, generator: random.Random, names: list[str], mark: Path) -> None:
    """Alter one value, key or branch of the recipes."""
    roots = [content["ser"]["config"], content["hyper_parameters"]]
    roots += [roots[0].get("data"), roots[0].get("model"), content["ser"]["stamps"]]
    root = generator.choice([root for root in roots if isinstance(root, dict)])
    found = list(places(root))
    if not found:
        return
    *parents, key = generator.choice(found)
    for parent in parents:
        root = root[parent]
    kind = generator.randrange(7)
    if kind == 0:
        del root[key]
    elif kind == 1 and isinstance(root, dict):
        other = generator.choice(["_args_", "_partial_", "_recursive_", "_convert_", "memory", "x"])
        root[other] = junk(generator, names, mark)
    elif kind == 2 and isinstance(root, dict):
        root[generator.choice(["\x1b]0;x", "hydra", 3, "_target_", "n_jobs"])] = root.pop(key)
    elif kind == 3:
        root[key] = [root[key]]
    elif kind == 4 and isinstance(root, dict):
        root["_target_"] = generator.choice([generator.choice(names), *KNOWN])
    else:
        root[key] = junk(generator, names, mark)


WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
EVENTS = (
    "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.remove", "os.rename", "os.mkdir",
    "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate", "subprocess.Popen",
    "socket.connect", "socket.getaddrinfo", "shutil.rmtree",
)  # fmt: skip
SEEN: list[str] | None = None


def _hook(event: str, arguments: tuple) -> None:
    if SEEN is not None and (
        event in EVENTS
        or (event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES)
    ):
        SEEN.append(f"{event} {arguments}")


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is done to files, processes and sockets; a target outside the lists is an event too."""
    global SEEN
    sys.addaudithook(_hook)
    resolve = _instantiate2._resolve_target

    def resolve_known(target: object, full_key: str) -> object:
        if target not in KNOWN:
            SEEN.append(f"built {target}")
        return resolve(target, full_key)

    monkeypatch.setattr(_instantiate2, "_resolve_target", resolve_known)
    SEEN = []
    yield SEEN
    SEEN = None


@contextmanager
def little_memory() -> Iterator[None]:
    """Bound what is held at any time: 1 GB more than before."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is measured from here on
    before = resident("VmRSS")
    yield
    assert resident("VmHWM") - before < 10**6


def resident(key: str) -> int:
    """Give a figure of this process, in KB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])


CHECKPOINTS = {
    "network": ("ser.training.classifier.EmotionClassifier", NETWORK),
    "estimator": ("ser.training.estimator.EstimatorClassifier", ESTIMATOR),
}
MEMBERS = [{"_target_": target, **recipe} for target, recipe in CHECKPOINTS.values()]
COMMITTEE = {"members": MEMBERS, "weights": [0.25, 0.75]}
CHECKPOINTS["committee"] = ("ser.training.committee.Committee", COMMITTEE)


@ROUNDS
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_recipe_altered_at_random_is_refused_in_one_line_or_harmless(
    name: str, rounds: int, tmp_path: Path, watched: list[str]
):
    whole, names, mark = sound(*CHECKPOINTS[name]), importable(), tmp_path / "touched"
    assert len(names) > 20_000
    check_recipe(build_checkpoint(whole, tmp_path, "ckpt='x'"))
    watched.clear()  # what is imported at first
    generator, refused = random.Random(name), 0
    with little_memory():
        watched.clear()  # it has asked for the peak to be measured
        for number in range(rounds):
            content = {key: copy.deepcopy(whole[key]) for key in ("hyper_parameters", "ser")}
            content = whole | content
            for _ in range(generator.randint(1, 3)):
                mutate(content, generator, names, mark)
            line = "resume="
            try:
                loaded = build_checkpoint(content, tmp_path, "ckpt='x'")
                check_recipe(loaded)
            except ValueError as error:
                line, refused = str(error), refused + 1
            else:  # what is built only later
                recipes = [loaded.config[key] for key in ("data", "model", *WRITERS)]
                assert {*targets(recipes)} <= KNOWN, number
            assert line.startswith(("ckpt='x'", "resume=")), (number, line)
            assert len(line) < 2000, number
            assert line.isprintable(), (number, line)
            assert not watched, (number, watched)
    assert rounds / 2 < refused < rounds
    assert not mark.exists()


@ROUNDS
def test_nothing_outside_the_lists_is_ever_built(rounds: int, tmp_path: Path, watched: list[str]):
    names = [name for name in importable() if name not in KNOWN]
    generator = random.Random(0)
    whole = sound(*CHECKPOINTS["network"])
    places_of = [("data",), ("model",), ("data", "window", "start")]
    places_of += [("data", key) for key in ("root", "protocol", "window", "merge")]
    places_of += [("model", key) for key in NETWORK if key != "seed"]
    places_of += [("trainer",), ("callbacks", "best"), ("logger", "csv")]
    watched.clear()
    for target in generator.sample(names, rounds):
        content = copy.deepcopy({key: whole[key] for key in ("hyper_parameters", "ser")})
        *parents, key = generator.choice(places_of)
        node = content["ser"]["config"]
        for parent in parents:
            node = node[parent]
        node[key] = generator.choice(
            [{"_target_": target}, node[key] | {"_target_": target}, {"_target_": target} | node]
        )
        with pytest.raises(ValueError, match="no code of it was run"):
            check_recipe(build_checkpoint(whole | content, tmp_path, "ckpt='x'"))
        assert not watched, (target, watched)


WIDE = {"_target_": "ser.models.cnn.CNN", "widths": [16384] * 8}


@pytest.mark.parametrize(
    ("members", "words"),
    [
        (MEMBERS * 500, "its recipe has more than 10000 values"),
        (MEMBERS * 20, "for 40 recipes as model.members: expected at most 10"),
        ([{"_target_": "ser.training.committee.Committee", **COMMITTEE}] * 2, "expected one of"),
        ([MEMBERS[0] | {"network": WIDE}, MEMBERS[1]], "such as members.0.network."),
        ([MEMBERS[1], MEMBERS[1]], "it lacks 'estimator.0'"),
        ([*MEMBERS, MEMBERS[1]], "expected a weight for each of 3 members"),
        (["network", "estimator"], "asks to build 'network' as model.members.0"),
        (MEMBERS[0], "cannot be built"),
        ([["a", MEMBERS[0]], ["b", MEMBERS[1]]], "cannot be built"),
        ([MEMBERS[0], MEMBERS[1] | {"frontend": MEMBERS[1]["frontend"] | {"bins": 5}}], "features"),
    ],
)
def test_members_of_a_committee_are_checked_as_models_are(
    members: object, words: str, tmp_path: Path, watched: list[str]
):
    whole = sound(*CHECKPOINTS["committee"])
    content = copy.deepcopy({key: whole[key] for key in ("hyper_parameters", "ser")})
    content["hyper_parameters"]["members"] = members
    watched.clear()
    with little_memory():
        watched.clear()
        with pytest.raises(ValueError, match=r"^ckpt='x'[^\n]+$") as caught:
            build_checkpoint(whole | content, tmp_path, "ckpt='x'")
    assert words in str(caught.value)
    assert not watched


def test_the_last_of_a_long_list_of_recipes_is_checked_too():
    steps = [{"_target_": "sklearn.preprocessing.StandardScaler"}] * trust.LONGEST
    pipeline = {"_target_": "sklearn.pipeline.make_pipeline"}
    for planted in (steps[:2], [*steps, steps[0]]):
        recipe = pipeline | {"_args_": [*planted, {"_target_": "builtins.eval"}]}
        with pytest.raises(ValueError, match="no code of it was run"):
            trust.check(recipe, "estimator", "model.estimator", "ckpt='x'")
