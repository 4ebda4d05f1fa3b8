"""Finished runs of an earlier start, which are kept where settings and clips are the same."""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from ser.config.differences import differences
from ser.evaluation.results import read_clips
from ser.evaluation.status import read_status
from ser.training import folds
from ser.training.processes import train_apart

log = logging.getLogger(__name__)

READ = ("batch_size", "shuffle_block", "window")
"""How clips are read, not which."""


def outcome(cfg: DictConfig) -> dict | None:
    """Return the status of a run that an earlier start has finished; None where it must run."""
    status = read_status(folder := Path(cfg.folder))
    if cfg.get("overwrite") or status is None or status["status"] != "finished":
        return None
    differing = differences(folder, OmegaConf.to_container(cfg))
    return None if differing else status


def settle(
    runs: Sequence[tuple[DictConfig, Sequence[str]]],
    train: Callable[[DictConfig], float | None],
    jobs: int = 1,
) -> list[float | None]:
    """Return the objectives of runs within a run; those that are not finished are trained.

    Args:
        runs: Config of each, and the overrides that it has besides those of this start.
        train: A function of a module: trains one and returns its objective.
        jobs: How many at once, each in a process of its own.
    """
    objectives, left = {}, {}
    for place, (cfg, overrides) in enumerate(runs):
        if (ended := outcome(cfg)) is None:
            left[place] = (train, cfg, overrides)
        else:
            log.info("%s is there already", _name(cfg))
            objectives[place] = ended["objective"]
    if jobs == 1 or not left:
        objectives |= {place: _train(*call) for place, call in left.items()}
    else:
        for place, objective in train_apart(_train, left, jobs):
            log.info("%s has ended", _name(runs[place][0]))
            objectives[place] = objective
    return [objectives[place] for place in range(len(runs))]


def _train(
    train: Callable[[DictConfig], float | None], cfg: DictConfig, overrides: Sequence[str]
) -> float | None:
    log.info("%s trains", _name(cfg))
    folds.record(cfg, [*folds.overrides_of(cfg), *overrides])
    return train(cfg)


def _name(cfg: DictConfig) -> str:
    return Path(cfg.folder).name.replace("_", " ")


def check_sweep(folder: Path) -> None:
    """Refuse to complete a sweep whose finished jobs know other clips than there are now."""
    runs = []
    for path in sorted(folder.glob("*/.hydra/config.yaml")):
        job = OmegaConf.load(path)
        job.folder = str(path.parents[1])
        job.overwrite = False  # taken up again, a sweep replaces nothing that is finished
        # What earlier versions recorded may lack keys of now.
        runs += folds.begun(job) if job.get("fold") == "all" else [job]
    check(runs)


def check(runs: Sequence[DictConfig]) -> None:
    """Refuse runs that were finished on other clips than there are now.

    Args:
        runs: Configs of jobs, folds, candidates, members or trials; those not finished pass.
    """
    opened = {}
    for cfg in runs:
        if outcome(cfg) is None:
            continue
        recipe = OmegaConf.to_container(cfg.data, resolve=True)
        fold = recipe.get("fold", 0)
        recipe |= {"fold": 0, "seed": 0}  # one scan serves all folds, orders and windows
        others = {name: value for name, value in recipe.items() if name not in READ}
        key = json.dumps(others, sort_keys=True)
        if key not in opened:
            opened[key] = instantiate(recipe)
        began = read_clips(Path(cfg.folder) / "split.csv")
        check_clips(cfg.folder, began, opened[key].record(fold))


def check_clips(source: str, began: pd.DataFrame, now: pd.DataFrame) -> None:
    """Refuse to go on with other clips than those that were begun with.

    Args:
        source: What goes on, for the message.
        began: The clips' `split`, `sha256` and, of the present version, `label` by identity.
        now: The same of what there is now.

    Raises:
        ValueError: Clips are missing, new, in another split, of another class or sound different.
    """
    columns = [name for name in ("split", "sha256", "label") if name in began.columns]
    both = began.index.intersection(now.index)
    changed = both[(began.loc[both, columns] != now.loc[both, columns]).any(axis=1)]
    other = [*began.index.symmetric_difference(now.index), *changed]
    if other:
        raise ValueError(
            f"{source} was trained on other clips: {len(other)} are missing, new, in another split,"
            f" of another class or sound different, such as {other[0]}; expected the data that it"
            " began with; take another hydra.run.dir, or overwrite=true to replace it"
        )
