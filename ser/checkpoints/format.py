"""The checkpoint: what it carries besides the weights, and how it is read and built."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch
from hydra.utils import get_class, get_object, instantiate
from lightning import Callback, LightningModule, Trainer
from safetensors.torch import load_file
from torch import nn

from ser.checkpoints import ownership, renames, sizes, trust
from ser.checkpoints.atomic_io import WholeFiles
from ser.config.split_info import STAMPS, SplitInfo
from ser.config.tensor_files import check_archive
from ser.corpora.labels import UNSURE
from ser.corpora.names import is_word
from ser.corpora.scan import from_name
from ser.evaluation.calibration import Calibration
from ser.features.frontend import build_frontend

FORMAT = 5
"""Raised when a checkpoint's `ser` entry changes its keys: 2 names clips without their corpus, 3
has two stamps, and 4 no calibration."""


NODES = 10_000
"""Values of a recipe."""

DEPTH = 30
"""Levels of a recipe."""

RECIPE, WEIGHTS = "config.json", "model.safetensors"
"""Files of a checkpoint as a model hub's folder."""

LONGEST = 2**24
"""Bytes of that recipe, the split included: of a hundred thousand clips they are 13 MB."""

IN_RECIPE = ("epoch", "hyper_parameters", "ser")
"""Entries of a checkpoint that the recipe of such a folder has, below `checkpoint`."""


class Recipe(Callback):
    """Writes the whole recipe into every checkpoint: config, split, protocol, versions.

    Args:
        config: The composed config, resolved, as plain containers.
        split: The clips' `split`, `sha256` and `label` by identity.
        split_info: Under which protocol and fold, and whether it leaks.
        overrides: What the run was started with.

    Raises:
        ValueError: The config names what no checkpoint may build: better said before training.
    """

    def __init__(
        self,
        config: Mapping,
        split: pd.DataFrame,
        split_info: SplitInfo,
        overrides: Sequence[str] = (),
    ) -> None:
        for slot in ("data", "model"):
            trust.check(config[slot], slot, slot)
        self.entry = {
            "format": FORMAT,
            "config": config,
            "split": split.reset_index().to_dict("list"),
            "stamps": asdict(split_info),
            "overrides": list(overrides),
            "calibration": None,
            "versions": {name: version(name) for name in ("ser", "torch", "torchaudio", "soxr")},
        }

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict
    ) -> None:
        """Add the entry `ser`."""
        checkpoint["ser"] = self.entry


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that has been read and found safe to build from.

    Attributes:
        path: The file, or a folder as a model hub has it.
        config: The recipe of its run, as plain containers.
        split: The clips' `split`, `sha256` and `label` by identity.
        split_info: Under which protocol and fold, and whether it leaks.
        overrides: What the run was started with; None where no training can go on from the file.
        epoch: The last that was finished, from 0.
        model: In eval mode on the CPU.
        clips_at_once: That can be scored in one batch.
        calibration: Of its probabilities; None where there were no validation speakers.
    """

    path: Path
    config: Mapping
    split: pd.DataFrame
    split_info: SplitInfo
    overrides: Sequence[str] | None
    epoch: int
    model: LightningModule
    clips_at_once: int
    calibration: Calibration | None

    def check_abstain(self, abstain: float | None) -> None:
        """Refuse to abstain without a calibration.

        Args:
            abstain: Share of wrong answers to accept; None never abstains.

        Raises:
            ValueError: There is none, or it is no share.
        """
        if abstain is None:
            return
        if not isinstance(abstain, int | float) or not 0 <= abstain <= 1:
            raise ValueError(f"abstain={abstain!r}: expected a share of wrong answers, 0 to 1")
        if self.calibration is None:
            raise ValueError(
                f"abstain={abstain}, but ckpt={str(self.path)!r} has no calibration to choose a"
                " threshold by: expected best.ckpt of a run with validation speakers, or no abstain"
            )


def load_checkpoint(
    path: str | Path | None,
    compiled: bool = False,
    key: str = "ckpt",
    encoder: str | None = None,
) -> Checkpoint:
    """Read a checkpoint and build its model, in eval mode on the CPU.

    Args:
        path: The file, or a folder with `RECIPE` and `WEIGHTS`.
        compiled: Whether what compiled code reads unchecked may be in it: trees, boosters, nearest
            neighbours.
        key: What names the file, for the message.
        encoder: File or folder of the weights of its encoder; None is where they lay in training.

    Raises:
        ValueError: It is missing, no checkpoint of this program, or names code that may not run.
    """
    usual = "last.ckpt" if key == "resume" else "best.ckpt"
    path = Path(path).expanduser() if path else None
    folder = key == "ckpt" and path is not None and (path / RECIPE).is_file()
    if path is None or not (folder or path.is_file()):
        raise ValueError(
            f"{key}={path and str(path)!r} is not a file: expected"
            f" {key}=outputs/.../checkpoints/{usual}, with quotes inside quotes for a path with"
            " commas, brackets, = or letters outside ASCII"
        )
    source = f"{key}={str(path)!r}"
    try:
        content = read_content(path)
    except Exception as error:  # a foreign file can make torch raise anything, also without words
        raise ValueError(f"{source} is no checkpoint of ser ({_reason(error)})") from error
    return build_checkpoint(content, path, source, compiled, encoder)


def build_checkpoint(
    content: Mapping,
    path: Path,
    source: str,
    compiled: bool = False,
    encoder: str | None = None,
) -> Checkpoint:
    """Check the content of a checkpoint and build its model, in eval mode on the CPU.

    Args:
        content: As `read_content` returns it.
        path: The file that it is from.
        source: How messages name the file.
        compiled: As of `load_checkpoint`.
        encoder: As there.

    Raises:
        ValueError: It is no checkpoint of this program, or names code that may not run.
    """
    try:
        entry, arguments = content["ser"], content["hyper_parameters"]
        number, writer = int(entry["format"]), entry["versions"]["ser"]
        if not re.fullmatch(r"[\w.+-]{1,50}", writer):
            raise ValueError("it was written by no version of ser")
    except Exception as error:
        raise ValueError(f"{source} is no checkpoint of ser ({_reason(error)})") from error
    if number not in range(2, FORMAT + 1):
        raise ValueError(
            f"{source} has format {number}: this version reads {FORMAT}; it was written by ser"
            f" {writer}: evaluate it with that version, or train again"
        )
    try:
        config, split = entry["config"], _read_split(entry["split"])
        _check_size([config, arguments, entry.get("overrides")])
        config, arguments = renames.rename(config), renames.rename(arguments)
        split_info = _read_split_info(entry["stamps"], whole=number >= 4)
        calibration = Calibration.read(entry.get("calibration"), len(split))
        _check_parts(arguments["classes"], content["epoch"], config.get("abstain"))
        target, data, state = config["model"]["_target_"], config["data"], content["state_dict"]
        own = {key: value for key, value in arguments.items() if key != "classes"}
        built = {"_target_": target, **own}
    except Exception as error:
        raise ValueError(f"{source} is no checkpoint of ser ({_reason(error)})") from error
    for slot, recipe in (("data", data), ("model", config["model"]), ("model", built)):
        trust.check(recipe, slot, slot, source)
    if encoder is not None:
        _relocate([recipe for _, recipe in _models(own)], encoder, source)
    try:
        window = instantiate(data["window"], _convert_="all")
        _check_stored(state, source)
        clips = min(
            _check_model(recipe, arguments["classes"], window.samples, state, place, source)
            for place, recipe in _models(own)
        )
        model = get_object(target)(**arguments)
        fitted = {key: value for key, value in content.items() if key.startswith("estimator")}
        if fitted:
            _check_stored(fitted, source)
            model.compiled = compiled or all(map(ownership.is_own, files_of(path)))
        model.on_load_checkpoint(content)
        model.load_state_dict(state)
    except Exception as error:  # so can what does not fit together
        if isinstance(error, ValueError) and source in str(error):
            raise
        raise ValueError(
            f"{source}: the model of its own recipe cannot be built or filled; it was written by"
            f" ser {writer} ({_reason(error)})"
        ) from error
    model.temperature = calibration and calibration.temperature
    overrides, epoch = entry.get("overrides"), content["epoch"]
    return Checkpoint(
        path, config, split, split_info, overrides, epoch, model.eval(), clips, calibration
    )


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write the calibration of a model into its checkpoint, which is one of one's own."""
    content = read_content(path)
    content["ser"]["calibration"] = calibration.content()
    WholeFiles().save_checkpoint(content, path)


def _reason(error: Exception) -> str:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return f"it lacks {reason}" if isinstance(error, KeyError) else reason


def files_of(path: Path) -> list[Path]:
    """List the files of a checkpoint."""
    return [path / RECIPE, path / WEIGHTS] if path.is_dir() else [path]


def read_content(path: Path) -> Mapping:
    """Return the content of a file, or of a folder as a model hub has it.

    Raises:
        ValueError: It would take more memory than disk, or names other than tensors.
    """
    if path.is_dir():
        return _read_folder(path)
    check_archive(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _read_folder(folder: Path) -> Mapping:
    """Return the content of a checkpoint that `ser.inference.hub_folder` has written.

    Raises:
        ValueError: Its recipe is too long, or no JSON.
        SafetensorError: Its weights are not all in their file, or more than that is.
    """
    recipe, weights = files_of(folder)
    with recipe.open("rb") as file:
        text = file.read(LONGEST + 1)
    if len(text) > LONGEST:
        raise ValueError(f"{RECIPE} has more than {LONGEST} bytes")
    stored = json.loads(text)["checkpoint"]
    if not weights.is_file():  # a pipe would be waited for
        raise ValueError(f"{WEIGHTS} is no file beside {RECIPE}")
    tensors = load_file(weights)
    # The names of a model's weights begin with those of its parts, of which none is so called.
    fitted = {name: value for name, value in tensors.items() if name.startswith("estimator")}
    state = {name: value for name, value in tensors.items() if name not in fitted}
    return {name: stored[name] for name in IN_RECIPE} | fitted | {"state_dict": state}


def _read_split(columns: Mapping) -> pd.DataFrame:
    """Return a split's columns by the identity of the clip.

    Raises:
        ValueError: They are of unequal length, or hold other than they should.
    """
    clip = "name" if "name" in columns else "clip"
    kept = ["split", "sha256", *(["label"] if "label" in columns else [])]  # not in earlier ones
    split = pd.DataFrame({key: columns[key] for key in (clip, *kept)}, dtype=object)
    if not split.map(lambda value: isinstance(value, str)).all(axis=None):
        raise ValueError("its split holds other than text")
    if split[clip].duplicated().any() or not split.split.isin(("train", "val", "test")).all():
        raise ValueError("its split names a clip twice, or none of train, val and test")
    if clip == "name":  # of format 2: without the corpus
        found = {name: from_name(name) for name in split.name}
        split["clip"] = [found[name].clip if found[name] else name for name in split.name]
    return split.set_index("clip")[kept]


def _check_size(node: object) -> None:
    """Refuse containers that hold one another many times over, or themselves.

    Raises:
        ValueError: There are more than `NODES` values or `DEPTH` levels.
    """
    waiting, count = [(node, 0)], 0
    while waiting:
        part, depth = waiting.pop()
        count += 1
        if count > NODES or depth > DEPTH:
            raise ValueError(f"its recipe has more than {NODES} values or {DEPTH} levels")
        if isinstance(part, str) and "${" in part:  # a resolver may read a file
            raise ValueError(f"its recipe asks to resolve {part[:200]!r}")
        if isinstance(part, Mapping):
            part = list(part.values())
        if isinstance(part, list | tuple):
            waiting += [(child, depth + 1) for child in part]


def _read_split_info(stamps: Mapping, whole: bool) -> SplitInfo:
    """Return what a checkpoint says of its split.

    Args:
        stamps: Its entry.
        whole: Whether every stamp has to be there.

    Raises:
        KeyError: One is missing.
        ValueError: A value is of another type, or is no text to be printed.
    """
    _ = [stamps[stamp] for stamp in STAMPS if whole]
    found = SplitInfo.read(stamps)
    wrong = [key for key, value in asdict(found).items() if not str(value)[:200].isprintable()]
    if wrong or not isinstance(found.fold, int):  # the folds of a pool have a checkpoint each
        raise ValueError(f"{', '.join(wrong) or 'fold'} are of another type")
    return found


def _check_parts(classes: Sequence[str], epoch: int, abstain: float | None) -> None:
    """Refuse what a later step would stumble over.

    Args:
        classes: Their names.
        epoch: The last that was finished.
        abstain: The share of wrong answers that was accepted.

    Raises:
        ValueError: One of them is of another kind.
    """
    if not isinstance(epoch, int):
        raise ValueError("its epoch is of another type")
    if abstain is not None and not (isinstance(abstain, float | int) and 0 <= abstain <= 1):
        raise ValueError("abstain is no share")
    named = isinstance(classes, list | tuple) and all(
        isinstance(name, str) and is_word(name, 100) for name in classes
    )
    if not named or len(set(classes)) != len(classes) or len(classes) < 2 or UNSURE in classes:
        raise ValueError("its classes are not two or more different names")


def _models(recipe: Mapping) -> Iterator[tuple[str, Mapping]]:
    """Yield the recipe of each model, with what the names of its weights begin with."""
    if "members" not in recipe:
        yield "", recipe
        return
    for number, member in enumerate(recipe["members"]):
        yield f"members.{number}.", member


def _relocate(recipes: Sequence[Mapping], encoder: str, source: str) -> None:
    """Let the front ends that read weights read those of another place; their checksum stays.

    Raises:
        ValueError: There is none.
    """
    found = 0
    for recipe in recipes:
        for name in get_class(recipe["frontend"]["_target_"]).located:
            recipe["frontend"][name] = encoder
            found += 1
    if not found:
        raise ValueError(f"encoder={encoder!r}, but {source} has no encoder: leave it out")


def _check_model(
    recipe: Mapping, classes: Sequence[str], samples: int, state: Mapping, place: str, source: str
) -> int:
    """Refuse a model that would take more memory than its file, before it takes any.

    Args:
        recipe: Of a network or an estimator with its front end, found to be safe.
        classes: Their names.
        samples: Of a window.
        state: Of the whole checkpoint.
        place: What the names of its weights begin with.
        source: Where it is from, for the message.

    Returns:
        How many clips can be scored in one batch.
    """
    sizes.check_window(recipe["frontend"], samples)
    network = None
    if "network" not in recipe:
        frontend = instantiate(recipe["frontend"])
    else:
        frontend = build_frontend(recipe["frontend"], recipe["network"])
        network = sizes.build_network(recipe["network"], classes, frontend)
        _check_weights(network, state, f"{place}network.", source)
    return sizes.clips_at_once(samples, frontend, network)


def _check_weights(network: nn.Module, weights: Mapping, place: str, source: str) -> None:
    """Refuse weights that are not those of a network, before it takes memory.

    Args:
        network: On the meta device.
        weights: The state of the model that holds it.
        place: What their names begin with there.
        source: Where they are from, for the message.

    Raises:
        ValueError: Names or shapes differ.
    """
    expected = {f"{place}{name}": value.shape for name, value in network.state_dict().items()}
    found = {name: value.shape for name, value in weights.items() if name.startswith(place)}
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


def _check_stored(state: Mapping[str, torch.Tensor], source: str) -> None:
    """Refuse tensors that claim more values than their file has.

    Raises:
        ValueError: One is sparse, on no device, not finite, or repeats what is stored, or two share
            it.
    """
    for name, value in state.items():
        plain = isinstance(value, torch.Tensor) and value.device.type == "cpu"
        plain = plain and value.layout == torch.strided
        if not plain or value.nbytes > value.untyped_storage().nbytes():
            raise ValueError(f"{source}: {name!r} is no tensor whose values are all in the file")
        if value.is_complex() or not value.isfinite().all():
            raise ValueError(f"{source}: {name!r} holds what is no finite number")
    storages = [value.untyped_storage() for value in state.values()]
    stored = sum({each.data_ptr(): each.nbytes() for each in storages}.values())
    if sum(value.nbytes for value in state.values()) > stored:
        raise ValueError(f"{source}: tensors of its state share their values")
