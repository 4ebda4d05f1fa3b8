"""Trust: what a recipe may build, by slot the exact names of classes with arguments of their types.

A checkpoint names code to build, so plain containers alone do not make a stranger's file safe.
Every `_target_` in it must be in the list of its slot; arguments are scalars and flat lists of
scalars, and another recipe stands only where the list says so. The recipe of one's own run passes
the same check before any work: what is trained here can be loaded elsewhere.

To let recipes build another class, add its name to its slot in `SLOTS`.
"""

import inspect
import json
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module

from pydantic import ConfigDict, TypeAdapter, ValidationError


def _names(package: str, names: str) -> dict[str, dict[str, str]]:
    return {f"{package}.{name}": {} for name in names.split()}


_MODELS = {
    "ser.training.classifier.EmotionClassifier": {
        key: key
        for key in ("frontend", "network", "augment", "channel", "optimizer", "scheduler")
    },
    "ser.training.estimator.EstimatorClassifier": {
        "frontend": "frontend", "estimator": "estimator",
    },
}  # fmt: skip
_MASKS = _names("torch.nn", "Identity") | _names("ser.features.augment", "SpecAugment")

SLOTS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "data": {
        "ser.data.datamodule.EmotionDataModule": {
            "root": "corpus", "protocol": "protocol", "window": "window", "servers": "servers",
        },
    },
    "corpus": _names("ser.corpora.demo", "build"),
    "protocol": _names(
        "ser.splits.protocols", "CrossCorpus Given Holdout KFold NamedFolds Random Statement"
    ),
    "window": _names("ser.audio.window", "Window"),
    "servers": _names("ser.fetch.servers", "Servers"),
    "model": _MODELS | {"ser.training.committee.Committee": {"members": "member"}},
    "member": _MODELS,  # a committee has no committees
    "frontend": _names("ser.features.bundles", "TorchaudioEncoder")
    | _names("ser.features.functionals", "Functionals")
    | _names("ser.features.hub", "HubEncoder")
    | _names("ser.features.opensmile", "OpenSmile")
    | _names("ser.features.spectral", "Chroma LogMel MelImage MFCC MFCCChroma"),
    "network": _names("ser.models.backbone", "Backbone")
    | _names("ser.models.cnn", "CNN")
    | _names("ser.models.conv1d", "Conv1D")
    | _names("ser.models.frames", "FrameClassifier")
    | _names("ser.models.pca_cnn", "PCACNN")
    | _names("ser.models.probe", "Probe")
    | _names("ser.models.recurrent", "Recurrent"),
    "augment": _MASKS | {"ser.features.augment.Noise": {"features": "masks"}},
    "masks": _MASKS,  # in noise once
    "channel": _names("torch.nn", "Identity") | _names("ser.features.channel", "RandomChannel"),
    "optimizer": _names(
        "torch.optim", "ASGD Adadelta Adagrad Adam AdamW Adamax NAdam RAdam RMSprop Rprop SGD"
    ),
    "scheduler": _names(
        "torch.optim.lr_scheduler",
        "ConstantLR CosineAnnealingLR CosineAnnealingWarmRestarts CyclicLR ExponentialLR LinearLR"
        " MultiStepLR OneCycleLR PolynomialLR StepLR",
    ),
    "estimator": {
        "lightgbm.LGBMClassifier": {},
        "sklearn.calibration.CalibratedClassifierCV": {"estimator": "estimator"},
        "sklearn.decomposition.PCA": {},
        "sklearn.ensemble.RandomForestClassifier": {},
        "sklearn.ensemble.VotingClassifier": {"estimators": "estimator"},
        "sklearn.linear_model.LogisticRegression": {},
        "sklearn.neighbors.KNeighborsClassifier": {},
        "sklearn.neural_network.MLPClassifier": {},
        "sklearn.pipeline.make_pipeline": {"_args_": "estimator"},
        "sklearn.preprocessing.StandardScaler": {},
        "sklearn.svm.SVC": {},
        "sklearn.tree.DecisionTreeClassifier": {},
        "ser.models.gender_split.GenderSplit": {"gender": "estimator", "emotion": "estimator"},
        "xgboost.XGBClassifier": {},
    },
    "trainer": {"lightning.Trainer": {"plugins": "plugin"}},
    "plugin": _names("ser.checkpoints.atomic_io", "WholeFiles"),
    "callback": _names(
        "lightning.pytorch.callbacks",
        "DeviceStatsMonitor EarlyStopping GradientAccumulationScheduler LearningRateMonitor"
        " ModelCheckpoint ModelSummary RichModelSummary RichProgressBar StochasticWeightAveraging"
        " TQDMProgressBar Timer",
    ),
    "logger": _names("lightning.pytorch.loggers", "CSVLogger TensorBoardLogger")
    | _names("ser.reporting.wandb", "wandb_logger")
    | _names("ser.training.restart", "CurvesLogger"),
}  # fmt: skip
"""By slot, what may be built there; by argument, the slot of the recipes that it takes."""

GIVEN = {
    "model": ("classes",),
    "member": ("classes",),
    "network": ("classes", "bins", "channels", "depth", "features", "upper"),
    "optimizer": ("params",),
    "scheduler": ("optimizer",),
    "estimator": ("memory",),  # a folder that is written to: nobody sets it
    "trainer": ("logger", "callbacks"),
}
"""Arguments that no recipe sets."""

KEYWORDS = {"lightgbm.LGBMClassifier": {"verbose": (int, False)}}
"""Arguments that a class takes without naming them: their type, and whether they must be given."""

_BUILT = {"_recursive_": False, "_convert_": "all"}
CONTROLS = {"model": _BUILT, "member": _BUILT, "data": {"_convert_": "all"}}
"""Hydra's own keys, as `conf/` writes them; others change what a name builds, and when."""

COMPOUND = ("folds", "merge", "roles", "start")
"""Arguments that may be lists of lists, or mappings, of scalars."""

LONGEST = 1000
"""Values of a list."""

MOST = 10
"""Recipes of a list, such as the members of a committee."""

DEEPEST = 10
"""Levels of recipes within recipes."""

WORDS = {
    "Input should be ": "",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "a valid array": "a list",
    "a valid boolean": "true or false",
    "a valid dictionary": "a mapping",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid string": "text",
    "an object": "a mapping",
    "greater than": "more than",
}
"""What pydantic says of JSON, as one says it of YAML."""

_TYPES = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)


def check(
    recipe: object,
    slot: str,
    key: str,
    source: str = "",
    named: Callable[[str], str] = str,
    depth: int = 0,
) -> None:
    """Refuse a recipe that names other code, or gives it other than plain values of its types.

    Nothing of it is built or called.

    Args:
        recipe: Plain containers with a `_target_`.
        slot: What they build, a key of `SLOTS`.
        key: Where they stand, for messages.
        source: The file that they are from, for messages; empty for a config.
        named: Gives the key that a user sets for one that is checked.
        depth: Recipes around it.

    Raises:
        ValueError: With the key, its value and what was expected.
    """
    known, place = SLOTS[slot], f"{source} asks" if source else "the config asks"
    target = recipe.get("_target_") if isinstance(recipe, Mapping) else recipe
    if not isinstance(recipe, Mapping) or not isinstance(target, str) or target not in known:
        raise ValueError(
            f"{place} to build {_shown(target)} as {_plain(named(key))}: expected one of"
            f" {', '.join(known)}; "
            + (
                "no code of it was run"
                if source
                else "another is a line of ser/checkpoints/trust.py"
            )
        )
    if depth > DEEPEST:
        raise ValueError(f"{place} for more than {DEEPEST} recipes within recipes at {_plain(key)}")
    parameters, given = _parameters(target), GIVEN.get(slot, ())
    for name, (_, needed) in parameters.items():
        if needed and name not in recipe and name not in given:
            raise ValueError(f"{place} for no {named(key)}.{name}, which {target} needs")
    for name, value in recipe.items():
        path, nested = f"{key}.{name}", known[target].get(name)
        if name == "_target_":
            continue
        if nested is None and (name not in parameters or name in given):
            written = CONTROLS.get(slot, {}).get(name)
            if written is not None and type(value) is type(written) and value == written:
                continue
            taken = dict.fromkeys([*parameters, *known[target]])
            raise ValueError(
                f"{place} for {_plain(named(path))}={_shown(value)}, which {target} does not take:"
                f" expected one of {', '.join(name for name in taken if name not in given)}; no"
                " code of it was run"
            )
        kind, needed = parameters.get(name, (object, False))
        if nested is not None and not isinstance(value, str | int | float | None):
            recipes = list(_recipes(value, path))
            if len(recipes) > MOST:
                raise ValueError(
                    f"{place} for {len(recipes)} recipes as {_plain(named(path))}: expected at most"
                    f" {MOST}; no code of it was run"
                )
            for part, child in recipes:
                check(child, nested, part, source, named, depth + 1)
        elif nested in (None, "corpus"):  # which may be a folder
            check_value(value, kind, path, source, named, name in COMPOUND)
        elif value is not None or needed:
            asked = f"{source} asks for {_plain(path)}" if source else named(path)
            raise ValueError(f"{asked}={_shown(value)}: expected a recipe with a _target_")


def check_value(
    value: object,
    kind: object,
    key: str,
    source: str = "",
    named: Callable[[str], str] = str,
    compound: bool = False,
) -> None:
    """Refuse a value that is not of a type, or no scalar or flat list of scalars.

    Args:
        value: As YAML gives it.
        kind: An annotation, such as `Sequence[str] | None`.
        key: Where it stands, for messages.
        source: The file that it is from, for messages; empty for a config.
        named: Gives the key that a user sets for one that is checked.
        compound: Whether it may be a list of lists, or a mapping, of scalars.

    Raises:
        ValueError: With the key, its value and what was expected.
    """
    place = f"{source} asks for {_plain(key)}" if source else named(key)
    scalars = list(_scalars(value, compound))
    # What is written is resolved when it is built; a resolver may read a file by then.
    resolved = any(isinstance(each, str) and ("${" in each or each == "???") for each in scalars)
    if resolved and source:
        raise ValueError(
            f"{source} asks to resolve {_shown(value)} at {_plain(key)}: expected plain values; no"
            " code of it was run"
        )
    if _NO_SCALAR in scalars:
        described = getattr(kind, "__name__", str(kind).replace("typing.", ""))
        raise ValueError(
            f"{place}={_shown(value)}: expected {described}, plain values of at most"
            f" {LONGEST} in a list; no code of it was run"
        )
    try:
        # As JSON, in which a list is what any sequence is written as.
        _adapter(kind).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        if isinstance(value, Mapping):
            inner = [one for one in problems if not {*value}.isdisjoint(one["loc"])]
            if inner:
                problems = inner
                name = next(part for part in inner[0]["loc"] if part in value)
                place, value = f"{place}.{_plain(name)}", value[name]
        wanted = dict.fromkeys(
            _in_yaml(problem["msg"])
            for problem in problems
            if problem["type"] != "needs_python_object"
        )
        if type(None) in typing.get_args(kind):
            wanted["null"] = None
        expected = " or ".join(wanted) or "a recipe with a _target_"
        if "a list" in wanted and isinstance(value, str) and _plain(value) == value:
            expected += f", such as '[{value}]'"
        raise ValueError(f"{place}={_shown(value)}: expected {expected}") from error


_NO_SCALAR = object()


def _scalars(value: object, compound: bool) -> Iterator[object]:
    """Yield the scalars of a value; `_NO_SCALAR` for what is nested deeper than it may be."""
    if isinstance(value, Mapping):
        # Of a key such as _target_ Hydra would make a call, whatever takes the mapping.
        plain = all(isinstance(key, str) and not key.startswith("_") for key in value)
        if not compound or not plain:
            yield _NO_SCALAR
            return
        value, compound = list(value.values()), False
    if isinstance(value, int) and abs(value) >= 2**63:  # JSON and libraries in C end there
        yield _NO_SCALAR
    elif value is None or isinstance(value, str | int | float):
        yield value
    elif isinstance(value, list | tuple) and len(value) <= LONGEST:
        for child in value:
            if isinstance(child, list | tuple) and not compound:
                yield _NO_SCALAR
            else:
                yield from _scalars(child, False)
    else:
        yield _NO_SCALAR


def _recipes(value: object, key: str) -> Iterator[tuple[str, object]]:
    """Yield the recipes of an argument: one, some, or pairs of a name and one."""
    if isinstance(value, Mapping) or not isinstance(value, list | tuple):
        yield key, value
        return
    for place, child in enumerate(value):
        pair = isinstance(child, list | tuple) and len(child) == 2 and isinstance(child[0], str)
        yield (f"{key}.{place}.1", child[1]) if pair else (f"{key}.{place}", child)


@cache
def _parameters(target: str) -> dict[str, tuple[object, bool]]:
    """Map arguments, those that are handed on included, to their type and whether they must be."""
    module, _, name = target.rpartition(".")
    try:
        built = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error}: xgboost and lightgbm come with an extra, uv run --extra boost"
        ) from error
    found: dict[str, tuple[object, bool]] = dict(KEYWORDS.get(target, {}))
    owners = inspect.getmro(built) if inspect.isclass(built) else (built,)
    owners = [each for each in owners if not inspect.isclass(each) or "__init__" in vars(each)]
    for owner in owners:
        function = inspect.unwrap(vars(owner)["__init__"] if inspect.isclass(owner) else owner)
        try:
            hints = typing.get_type_hints(function, include_extras=True)
        except NameError:  # of a name that its module imports for type checkers alone
            hints = {}
        parameters = inspect.signature(function).parameters.values()
        for each in parameters:
            if each.name != "self" and each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY):
                needed = each.default is each.empty and owner is owners[0]
                found.setdefault(each.name, (hints.get(each.name, object), needed))
        if not any(each.kind is each.VAR_KEYWORD for each in parameters):
            break
    return found


@cache
def _adapter(kind: object) -> TypeAdapter:
    return TypeAdapter(kind, config=_TYPES)


def _in_yaml(message: str) -> str:
    for words, others in WORDS.items():
        message = message.replace(words, others)
    return message


def _plain(key: str) -> str:
    """Spell out a key that may be anything in one short line."""
    return key if key.isprintable() and len(key) <= 200 else ascii(key)[:200]


def _shown(value: object) -> str:
    """Spell out a value that may be of any size, or hold itself, in one short line."""
    if isinstance(value, Sequence | Mapping) and len(value) > 200:
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, int) and abs(value) >= 2**63:
        return "a number of more than 63 bits"
    flat = not isinstance(value, list | tuple) or all(
        isinstance(child, str | int | float) for child in value
    )
    if isinstance(value, str | int | float | list | tuple | None) and flat:
        return repr(value)[:300]
    return f"a {type(value).__name__}"
