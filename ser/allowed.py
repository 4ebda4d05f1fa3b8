"""What may be built from a checkpoint: classes and functions by name, of sizes that fit.

A checkpoint names code to build, so plain containers alone do not make a stranger's file safe:
every `_target_` in it, at any depth, must be one of the classes and functions listed here.
"""

from collections.abc import Mapping

import torch
from hydra._internal.utils import _locate  # as get_object, which logs what it does not find
from hydra.utils import instantiate

PACKAGES = ("ser.", "torch.nn.", "torch.optim.", "torchaudio.transforms.")
"""Their classes may be built from a checkpoint."""

NAMED = (
    "ser.data.demo.build",
    "lightgbm.LGBMClassifier",
    "sklearn.calibration.CalibratedClassifierCV",
    "sklearn.decomposition.PCA",
    "sklearn.ensemble.RandomForestClassifier",
    "sklearn.ensemble.VotingClassifier",
    "sklearn.linear_model.LogisticRegression",
    "sklearn.neighbors.KNeighborsClassifier",
    "sklearn.neural_network.MLPClassifier",
    "sklearn.pipeline.make_pipeline",
    "sklearn.preprocessing.StandardScaler",
    "sklearn.svm.SVC",
    "sklearn.tree.DecisionTreeClassifier",
    "xgboost.XGBClassifier",
)
"""What else may be."""

RUN_PACKAGES = ("lightning.pytorch.callbacks.", "lightning.pytorch.loggers.")
"""Their classes may be built besides by a training that is resumed."""

RUN_NAMED = ("lightning.Trainer", "ser.tracking.wandb_logger")
"""What else may be then."""

NODES = 10_000
"""Values in a recipe; lists that hold one another many times over would be more than any number."""

DEPTH = 30

LARGEST = {"sample_rate": 2**18}
"""Hz."""

LARGEST_OTHER = 2**14
"""Bins, samples of a frame, units of a layer: ten times what anyone takes."""


def check_targets(
    node: object,
    source: str,
    packages: tuple[str, ...] = PACKAGES,
    named: tuple[str, ...] = NAMED,
) -> None:
    """Refuse plain containers that name other code, or resolve to what is not there yet.

    Args:
        node: The containers.
        source: Where they are from, for the message.
        packages: Their classes may be built.
        named: What else may be.

    Raises:
        ValueError: One of them asks for more; nothing has been run.
    """
    waiting, count = [(node, 0)], 0
    while waiting:
        part, depth = waiting.pop()
        count += 1
        if count > NODES or depth > DEPTH:
            raise ValueError(
                f"{source} holds a recipe of more than {NODES} values or {DEPTH} levels: expected"
                " one that this program has written; no code of it was run"
            )
        if isinstance(part, Mapping):
            if "_target_" in part:
                _check_target(part["_target_"], source, packages, named)
            part = list(part.values())
        if isinstance(part, list | tuple):
            waiting += [(child, depth + 1) for child in part]
        # What is written is resolved; a resolver may create a node after this look, or read a file.
        if isinstance(part, str) and "${" in part:
            raise ValueError(
                f"{source} asks to resolve {part!r}: expected plain values; no code of it was run"
            )


def check_sizes(model: Mapping, source: str) -> None:
    """Refuse front ends and networks that would take all memory.

    Args:
        model: Recipes of its parts, as plain containers whose targets have been checked.
        source: Where they are from, for the message.

    Raises:
        ValueError: A number is larger than any that makes sense.
    """
    waiting = [("", model.get(part)) for part in ("frontend", "network", "augment")]
    while waiting:
        key, part = waiting.pop()
        if isinstance(part, Mapping):
            waiting += part.items()
        elif isinstance(part, list | tuple):
            waiting += [(key, child) for child in part]
        elif isinstance(part, int) and abs(part) > (most := LARGEST.get(key, LARGEST_OTHER)):
            raise ValueError(f"{source} asks for {key}={part}: expected at most {most}")


def check_weights(model: Mapping, weights: Mapping, source: str) -> None:
    """Refuse weights that are not those of the network of their recipe, before it takes memory.

    Args:
        model: What builds the model: `classes`, `frontend` and `network`, as far as it has them.
        weights: Its state.
        source: Where they are from, for the message.

    Raises:
        ValueError: Names or shapes differ, or values are claimed that are not in the file.
    """
    for name, value in weights.items():
        check_stored(value, f"{source}: {name}")
    if "network" not in model:
        return
    frontend = instantiate(model["frontend"])
    named = ("bins", "channels") if hasattr(frontend, "bins") else ("features",)
    shape = {key: getattr(frontend, key) for key in named}
    with torch.device("meta"):
        network = instantiate(model["network"], classes=len(model["classes"]), **shape)
    expected = {f"network.{name}": value.shape for name, value in network.state_dict().items()}
    found = {name: value.shape for name, value in weights.items() if name.startswith("network.")}
    differing = sorted(
        name for name in {*expected, *found} if expected.get(name) != found.get(name)
    )
    if differing:
        name = differing[0]
        expected, found = (
            list(shapes[name]) if name in shapes else "none" for shapes in (expected, found)
        )
        raise ValueError(
            f"{source} holds other weights than its recipe makes: {len(differing)} differ, such as"
            f" {name}, {found} instead of {expected}"
        )


def check_stored(value: torch.Tensor, source: str) -> None:
    """Refuse a tensor that claims more values than its file has.

    Raises:
        ValueError: It is sparse, on no device, or repeats what is stored.
    """
    plain = isinstance(value, torch.Tensor) and value.device.type == "cpu"
    plain = plain and value.layout == torch.strided
    if not plain or value.nbytes > value.untyped_storage().nbytes():
        raise ValueError(f"{source} is no tensor whose values are all in the file")


def _check_target(
    target: str, source: str, packages: tuple[str, ...], named: tuple[str, ...]
) -> None:
    if target in named:
        return
    if isinstance(target, str) and target.startswith(packages):
        try:
            found = _locate(target)
        except Exception:  # noqa: BLE001 - whatever importing a planted name raises
            found = None
        # A path may lead through a module's own imports to any class there is.
        if isinstance(found, type) and f"{found.__module__}.".startswith(packages):
            return
    raise ValueError(
        f"{source} asks to build {target!r}: expected a class of {', '.join(packages)} or one of"
        f" {', '.join(named)}; no code of it was run"
    )
