"""The folds of a cross-validation: each is a run, with a config and a folder of its own."""

import copy
import os
from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from ser.config.differences import differences
from ser.evaluation.status import NEXT_RECORD, RECORD, held_run


def of(cfg: DictConfig, number: int) -> DictConfig:
    """Return the config of one fold, which runs in a folder of its own."""
    folder = Path(cfg.folder)
    fold = copy.deepcopy(cfg)
    fold.fold = number
    fold.folder = str(folder / f"fold_{number}")
    if "WANDB_RUN_ID" in os.environ:  # of an agent's trial, which is the whole
        with open_dict(fold):
            fold.logger.pop("wandb", None)
    return fold


def begun(cfg: DictConfig) -> list[DictConfig]:
    """Return the configs of the folds that an earlier start has begun.

    Raises:
        ValueError: One was trained under other settings than these.
    """
    names = [path.parent.name for path in Path(cfg.folder).glob("fold_*/status.json")]
    found = [
        of(cfg, number) for number in sorted(int(name.removeprefix("fold_")) for name in names)
    ]
    for fold in found:
        if held_run(folder := Path(fold.folder)) is None:
            continue
        if differing := differences(folder, OmegaConf.to_container(fold)):
            raise ValueError(
                f"{folder} was run with {differing[0]}: expected the settings it began with;"
                " take another hydra.run.dir, or overwrite=true to replace it"
            )
    return found


def recorded_fold(run: Path) -> int | str | None:
    """Return the fold that a run was started with, `all` of a cross-validation; None of others."""
    recorded = run / ".hydra" / "config.yaml"
    return OmegaConf.load(recorded).get("fold") if recorded.is_file() else None


def is_part(cfg: DictConfig) -> bool:
    """Return whether a run is part of another: a fold, a candidate, a member or a trial."""
    return Path(cfg.folder) != Path(HydraConfig.get().runtime.output_dir)


def overrides_of(cfg: DictConfig) -> list[str]:
    """Return the overrides of this start, for one of its folds."""
    given = [text for text in HydraConfig.get().overrides.task if text != "fold=all"]
    return [*given, f"fold={cfg.fold}"]


def started_with(cfg: DictConfig) -> list[str]:
    """Return the overrides with which train.py composes a run; a part has them in its record."""
    for name in (NEXT_RECORD, RECORD) if is_part(cfg) else ():
        recorded = Path(cfg.folder) / name / "overrides.yaml"
        if recorded.is_file():
            return list(OmegaConf.load(recorded))
    return list(HydraConfig.get().overrides.task)


def record(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Write what becomes .hydra/ of a run within a run once it begins, as Hydra does for the run.

    Args:
        cfg: Its config.
        overrides: With which train.py composes that.
    """
    folder = Path(cfg.folder) / NEXT_RECORD
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(cfg, folder / "config.yaml")
    OmegaConf.save(list(overrides), folder / "overrides.yaml")
