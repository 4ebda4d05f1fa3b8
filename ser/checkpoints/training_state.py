"""The training state in a checkpoint: checked against a fresh one before it is restored.

Lightning and torch restore these without a look: a tensor of another size leads compiled code
astray, and a path in the state of a callback is a file that is deleted. Only what has the shape of
a fresh state is passed on.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from lightning import LightningModule, Trainer

KEYS = (
    "callbacks", "epoch", "global_step", "hparams_name", "hyper_parameters", "loops",
    "lr_schedulers", "optimizer_states", "pytorch-lightning_version", "ser", "state_dict",
)  # fmt: skip
"""Of a checkpoint, what a training is given."""


def checked(content: Mapping, model: LightningModule, folder: Path) -> dict:
    """Return the content of a checkpoint with states that are safe to restore.

    Args:
        content: As `ser.checkpoints.format.read_content` gives it.
        model: Of the checkpoint.
        folder: The checkpoints of the run that goes on.

    Raises:
        ValueError: A state is not one of this model's training.
    """
    try:
        (optimizer,), schedulers = model.configure_optimizers()
        _check_optimizers(content["optimizer_states"], optimizer)
        _check_alike(content["lr_schedulers"], [each.state_dict() for each in schedulers])
        trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", devices=1)
        for name in ("fit_loop", "validate_loop", "test_loop", "predict_loop"):
            state = getattr(trainer, name).state_dict()
            _check_progress(content["loops"][name], state)
        if not re.fullmatch(r"\d+(\.\w+){1,4}", content["pytorch-lightning_version"]):
            raise ValueError("its version of Lightning is none")
        callbacks = {
            str(key): _callback(state, folder)
            for key, state in content["callbacks"].items()
            if isinstance(state, Mapping)
        }
        steps = {key: int(content[key]) for key in ("epoch", "global_step")}
    except Exception as error:  # of a stranger's containers anything may be raised
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"the training cannot go on from its state ({reason})") from error
    return {key: content[key] for key in KEYS} | {"callbacks": callbacks} | steps


def _check_optimizers(states: list, optimizer: torch.optim.Optimizer) -> None:
    if len(states) != 1 or {*states[0]} != {"state", "param_groups"}:
        raise ValueError("there is not one state of an optimiser")
    _check_alike(
        [{**group, "initial_lr": 0.0} for group in states[0]["param_groups"]],
        [{**group, "initial_lr": 0.0} for group in optimizer.state_dict()["param_groups"]],
    )
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    if not {*states[0]["state"]} <= {*range(len(parameters))}:
        raise ValueError("the optimiser knows other weights")
    for row, values in states[0]["state"].items():
        for name, value in values.items():
            plain = isinstance(name, str) and type(value) in (int, float, bool, type(None))
            if not plain and not (
                type(value) is torch.Tensor
                and value.layout == torch.strided
                and value.device.type == "cpu"
                and value.shape in (torch.Size([]), parameters[row].shape)
                and value.dtype in (torch.float32, torch.int64)
                and value.untyped_storage().nbytes() >= value.nbytes
            ):
                raise ValueError(f"{name!r} of an optimiser is not of the shape of its weights")


def _check_alike(state: object, fresh: object) -> None:
    """Refuse containers that differ from fresh ones in more than their finite numbers."""
    if isinstance(fresh, Mapping):
        if {*state} != {*fresh}:
            raise ValueError(f"it has the keys {sorted(map(str, {*state} ^ {*fresh}))[:5]}")
        for key, value in fresh.items():
            _check_alike(state[key], value)
    elif isinstance(fresh, list | tuple):
        if not isinstance(state, list | tuple) or len(state) != len(fresh):
            raise ValueError("a list is of another length")
        for one, other in zip(state, fresh, strict=True):
            _check_alike(one, other)
    elif isinstance(fresh, float | int) and not isinstance(fresh, bool):
        if type(state) not in (int, float) or not math.isfinite(state):
            raise ValueError("a number is none")
    elif type(state) is not type(fresh) or (state != fresh and not isinstance(fresh, bool)):
        raise ValueError("a value is of another kind")


def _check_progress(state: object, fresh: object) -> None:
    """Refuse the state of a loop that holds other than counts under the keys of a fresh one."""
    if isinstance(fresh, Mapping) and fresh:
        # A fresh loop has not stepped yet.
        if not isinstance(state, Mapping) or {*state} != {*fresh}:
            raise ValueError("a loop has other keys")
        for key, value in fresh.items():
            _check_progress(state[key], value)
    elif isinstance(fresh, Mapping):
        if not isinstance(state, Mapping) or len(state) > 10:
            raise ValueError("a loop has a state of its own")
        for key, value in state.items():
            if not isinstance(key, str) or type(value) not in (int, bool):
                raise ValueError("a loop has a state of its own")
    elif type(state) not in (int, bool) or state < 0:
        raise ValueError("a count is none")


def _callback(state: Mapping, folder: Path) -> dict:
    """Return the state of a callback; files in it are those of the run that goes on."""
    if "best_model_path" not in state:
        return {key: _score(value) for key, value in state.items() if isinstance(key, str)}
    name = Path(state["best_model_path"]).name
    if not re.fullmatch(r"([\w=.-]+\.ckpt)?", name):
        raise ValueError("the best checkpoint has no name of one")
    if state["monitor"] is None and name != "last.ckpt":
        name = ""  # it removes the file before, when it writes the next
    best = str(folder / name) if name else ""
    score = _score(state["best_model_score"])
    monitored = state["monitor"] is not None and score is not None and name
    return {
        "monitor": None if state["monitor"] is None else str(state["monitor"]),
        "dirpath": str(folder),
        "best_model_path": best,
        "best_model_score": score,
        "current_score": _score(state["current_score"]),
        "best_k_models": {best: score} if monitored else {},
        "kth_best_model_path": best if monitored else "",
        "kth_value": _score(state["kth_value"]),
        "last_model_path": "",
    }


def _score(value: object) -> object:
    if type(value) in (int, float, bool, type(None)):
        return value
    if type(value) is torch.Tensor and value.ndim == 0 and value.device.type == "cpu":
        return value.clone()
    raise ValueError("the state of a callback is no number")
