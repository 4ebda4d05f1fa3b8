"""Every value of a composed config, checked before any work: types first, then a trial build."""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Literal

import torch
from annotated_types import Interval, Len, Predicate
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf

from ser.audio.clips import ON_ERROR
from ser.checkpoints import sizes, trust
from ser.config.differences import leaves
from ser.config.errors import cause_of, one_line
from ser.config.quantities import Amount, Count, Fold, Natural, Positive, Seed, Share
from ser.corpora.scan import CORPORA
from ser.data.datamodule import describe
from ser.features.frontend import build_frontend
from ser.splits.leakage import check_objective
from ser.splits.protocols import OpenShare
from ser.training import committee, selection

METRICS = ("uar", "macro_f1", "accuracy")
OBJECTIVES = tuple(f"{place}/{metric}" for place in ("val", "cv") for metric in METRICS)
"""On the validation clips, or for classical models cross-validated on the training speakers."""


def _is_folder_name(name: str) -> bool:
    return name.isprintable() and re.fullmatch(r"(?!\.+$)[^/]+", name) is not None


SETTINGS: Mapping[str, object] = {
    "abstain": Share | None,
    "ckpt": str | None,
    "compiled": bool,
    "conditions": Sequence[str] | None,
    "drop_classes": Sequence[str] | None,
    "encoder": str | None,
    "ensemble": Annotated[int, Interval(ge=2, le=trust.MOST)]
    | Annotated[Sequence[str], Len(2, trust.MOST)]
    | None,
    "ensemble_weights": Annotated[Sequence[Amount], Len(2, trust.MOST)] | Literal["val"] | None,
    "fold": Fold,
    "folder": str,
    "group": str | None,
    "input": str | None,
    "int8": bool,
    "jobs": Count | None,
    "name": Annotated[str, Predicate(_is_folder_name)],
    "n_trials": Count,
    "nth": Natural,
    "normalize": Literal["speaker"] | None,
    "objective": Literal[OBJECTIVES] | None,
    "overwrite": bool,
    "players": bool,
    "published": Mapping[str, float] | None,
    "random_roles": Mapping[str, str] | None,
    "random_test_size": OpenShare | None,
    "refit": bool,
    "resume": str | None,
    "resume_sweep": str | None,
    "seed": Seed,
    "select": str | None,
    "shard": Natural,
    "shards": Count,
    "split": Literal["val", "test"],
    "to": str | None,
    "cache.dir": str | None,
    "cache.max_gb": Positive | None,
    "data.root": str | None,
    "data.manifest": str | None,
    "data.on_error": Literal[ON_ERROR] | None,
}
"""Keys outside the recipes, and what they may be."""

MAPPINGS = ("published", "random_roles")
"""Those that hold one."""

RECIPES = ("data", "model", "trainer")
"""Root keys that are recipes; `callbacks` and `logger` hold some, by name."""

GROUPS = (
    "augment", "cache", "callbacks", "channel", "frontend", "logger", "optimizer", "protocol",
    "scheduler", "space", "voters", "window",
)  # fmt: skip
"""Root keys that the recipes refer to, and what `ser.launch.tune` checks."""

_KEY = re.compile(r"\b(data|protocol|window|frontend|model|optimizer|scheduler|trainer)\.\w")
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")


def check(cfg: DictConfig) -> None:
    """Refuse a config with a value that could not be built, or would be ignored.

    Args:
        cfg: As composed for train.py or eval.py, without Hydra's own part.

    Raises:
        ValueError: In one line, which names the key. Nothing has been read or written.
        ModuleNotFoundError: A model needs an extra.
    """
    written = OmegaConf.to_container(cfg)
    config = OmegaConf.to_container(cfg, resolve=True)
    for key in config.keys() - {*SETTINGS, *RECIPES, *GROUPS}:
        raise ValueError(
            f"{key}={config[key]!r} is no key of a run: see --help, or is it one of"
            f" {', '.join(difflib.get_close_matches(key, [*SETTINGS, *RECIPES, *GROUPS], 3, 0))}?"
        )
    check_types(config, named=lambda key: _as_set(written, key))
    if "model" in config:
        _check_ensemble(config)
        chosen = selection.first(cfg) if config["select"] is not None else cfg
        _build(OmegaConf.to_container(chosen, resolve=True))
        for _, member in committee.members(cfg):
            check(member)


def check_types(config: Mapping, source: str = "", named: Callable[[str], str] = str) -> None:
    """Refuse plain containers with a value of another type, or that name other code.

    Args:
        config: A whole config, resolved.
        source: The file that it is from, for messages; empty for a config.
        named: Gives the key that a user sets for one that is checked.
    """
    for key, value in _settings(config):
        if key in SETTINGS:
            trust.check_value(value, SETTINGS[key], key, source, named, key in MAPPINGS)
    for slot, key, recipe in recipes(config):
        if key.rpartition(".")[2].startswith("_"):  # Hydra's own, such as _target_
            place = f"{source} asks for {key}" if source else key
            raise ValueError(f"{place}: expected the name of a {slot}")
        trust.check(recipe, slot, key, source, named)


def recipes(config: Mapping) -> Iterator[tuple[str, str, object]]:
    """Yield slot, key and content of each recipe of a whole config."""
    for slot in RECIPES:
        # Of data, eval.py has only some keys.
        if slot in config and (slot != "data" or "_target_" in config[slot]):
            yield slot, slot, config[slot]
    for slot, key in (("callback", "callbacks"), ("logger", "logger")):
        for name, recipe in (config.get(key) or {}).items():
            yield slot, f"{key}.{name}", recipe


def _settings(config: Mapping) -> Iterator[tuple[str, object]]:
    yield from config.items()
    parts = ("cache", "data") if "_target_" not in config["data"] else ("cache",)
    for part in parts:
        yield from ((f"{part}.{key}", value) for key, value in (config.get(part) or {}).items())


def _as_set(written: Mapping, key: str) -> str:
    """Name the key that a user sets: `optimizer.lr` for `model.optimizer.lr`."""
    node, parts = written, key.split(".")
    for place, part in enumerate(parts):
        if isinstance(node, list):
            node = node[int(part)]
        else:
            node = node.get(part) if isinstance(node, Mapping) else None
        if isinstance(node, str) and (found := _REFERENCE.fullmatch(node)):
            return _as_set(written, ".".join([found[1], *parts[place + 1 :]]))
    return key


def _check_ensemble(config: Mapping) -> None:
    """Refuse weights that are not those of the members, and what a committee cannot do."""
    given, weights = config.get("ensemble"), config.get("ensemble_weights")
    if given is None:
        if weights is not None:
            raise ValueError(
                f"ensemble_weights={weights!r} without members: expected ensemble=, as 3"
            )
        return
    count = given if isinstance(given, int) else len(given)
    if isinstance(weights, list) and (len(weights) != count or not any(weights)):
        raise ValueError(
            f"ensemble_weights={weights}: expected a number for each of {count} members, one of"
            " them above 0"
        )
    if weights == "val" and config["objective"] is None:
        raise ValueError(
            "ensemble_weights=val with objective=null: expected validation speakers and an"
            " objective of theirs, or weights that are fixed"
        )
    for key in ("select", "refit", "normalize"):
        if config[key]:
            raise ValueError(
                f"{key}={config[key]} with ensemble=: a committee's members are plain runs that"
                f" hear waveforms; expected {key} in runs of their own, or no ensemble"
            )
    if str(config["objective"]).startswith("cv/"):
        raise ValueError(
            f"objective={config['objective']} with ensemble=: expected one of val/, by which the"
            " whole is scored"
        )


def _build(config: Mapping) -> None:
    """Build all that a run builds, but the data, and the network without memory for its weights."""
    data, model = config["data"], config["model"]
    with _naming("protocol", data["protocol"]):
        instantiate(data["protocol"], _convert_="all")
    with _naming("window", data["window"]):
        window = instantiate(data["window"], _convert_="all")
        sizes.check_window(model["frontend"], window.samples)
    try:  # a root is not looked at; a manifest says which corpora and classes there are
        built = describe(data)
    except InstantiationException as error:
        raise cause_of(error) from error
    known = dict.fromkeys((*CORPORA, *built.known, "other"))
    for name in window.start if isinstance(window.start, Mapping) else ():
        if name not in known:
            raise ValueError(f"window.start.{name}: expected one of {', '.join(known)}")
    classes = built.labels.classes
    with _naming("trainer", config["trainer"]):
        instantiate(config["trainer"], logger=False, default_root_dir=None)
    unvalidated = config["objective"] is None or config["refit"]
    for key, recipe in config["callbacks"].items():
        monitor = recipe.get("monitor")
        with _naming(f"callbacks.{key}", recipe):
            check_objective(f"callbacks.{key}.monitor", monitor)
            instantiate(recipe)
        early = "EarlyStopping" in recipe["_target_"]
        if unvalidated and (early or monitor not in (None, config["objective"])):
            raise ValueError(
                f"callbacks.{key}.monitor={monitor!r} with objective=null or refit=true: expected"
                " no callback that asks for validation, as a training without it has none"
            )
    _check_epochs(config)
    with _naming("frontend", model["frontend"]):
        get_class(model["frontend"]["_target_"]).fetch(model["frontend"])
    _check_noise(config)
    channel = (model.get("channel") or {}).get("_target_", "")
    if data["normalize"] is not None and channel.endswith("RandomChannel"):
        raise ValueError(
            f"normalize={data['normalize']} standardises finished features, of which a channel"
            " alters what they are made of: expected channel=none"
        )
    with torch.random.fork_rng(devices=[]):
        if "estimator" in model:
            _build_estimator(model, classes, window.samples)
        else:
            _build_network(model, classes, window.samples)


def _check_noise(config: Mapping) -> None:
    """Refuse noise in training where waveforms are not what trains."""
    if not (config.get("augment") or {}).get("_target_", "").endswith(".Noise"):
        return
    if "estimator" in config["model"]:
        raise ValueError(
            "augment=noise alters clips anew in each epoch, of which a classical model has none:"
            " expected it with a network, such as model=cnn"
        )
    if config["data"]["normalize"] is not None:
        raise ValueError(
            f"normalize={config['data']['normalize']} standardises features that are computed once,"
            " which augment=noise alters anew in each epoch: expected one of them"
        )
    frontend = config["model"]["frontend"]["_target_"]
    if get_class(frontend).exact:
        raise ValueError(
            f"augment=noise alters waveforms, and {frontend} analyses each clip once for all"
            " epochs: expected another augment, or frontend=mfcc"
        )


def _check_epochs(config: Mapping) -> None:
    """Refuse epochs of a classical model, and an objective that chooses no epoch of a network."""
    epochs, objective = config["trainer"].get("max_epochs"), config["objective"]
    if "estimator" in config["model"]:
        if epochs is not None:
            raise ValueError(
                f"trainer.max_epochs={epochs}: a classical model is fitted once and has no epochs;"
                " leave trainer=one_pass as the model sets it"
            )
    elif str(objective).startswith("cv/"):
        raise ValueError(
            f"objective={objective} is for classical models, which are fitted once: expected one of"
            " val/, which chooses the epoch"
        )


def _build_estimator(model: Mapping, classes: list[str], samples: int) -> None:
    with _naming("frontend", model["frontend"]):
        built = instantiate(model, classes=classes)
        sizes.clips_at_once(samples, built.frontend, None)
    from ser.checkpoints import estimator_io  # with skops, which no network needs

    with _naming("model.estimator", model["estimator"]):
        for part in estimator_io.parts(built.estimator):
            if hasattr(part, "_parameter_constraints"):
                part._validate_params()  # what scikit-learn's own `fit` begins with


def _build_network(model: Mapping, classes: list[str], samples: int) -> None:
    with _naming("frontend", model["frontend"]):
        frontend = build_frontend(model["frontend"], model["network"])
    with _naming("model.network", model["network"]):
        network = sizes.build_network(model["network"], classes, frontend)
        sizes.clips_at_once(samples, frontend, network)
    weights = [torch.nn.Parameter(torch.zeros(1))]
    with _naming("optimizer", model["optimizer"]):
        optimizer = instantiate(model["optimizer"], params=weights)
    if model["scheduler"] is not None:
        with _naming("scheduler", model["scheduler"]):
            instantiate(model["scheduler"], optimizer=optimizer)


@contextmanager
def _naming(key: str, recipe: Mapping) -> Iterator[None]:
    """Turn what a library says of values into one line that names their keys.

    Raises:
        ValueError: In place of whatever else was raised.
    """
    try:
        yield
    except Exception as error:  # libraries raise anything
        cause = cause_of(error)
        if isinstance(cause, ModuleNotFoundError):
            raise cause from error
        reason = one_line(cause)
        if not _KEY.search(reason):  # its own message names none
            values = {name: f"{key}.{name}={value!r}" for name, value in leaves(recipe)}
            values.pop("_target_", None)
            meant = [shown for name, shown in values.items() if name.rpartition(".")[2] in reason]
            reason = f"{', '.join(meant or values.values())}: {reason}"
        raise ValueError(reason) from error
