"""Nested selection: a small search, decided on the validation actors of one fold."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

log = logging.getLogger(__name__)


def choose(cfg: DictConfig, validate: Callable[[DictConfig], float]) -> DictConfig:
    """Train each candidate of the preset `select` and give the config of the best.

    What each scored, and which won, is written to selection.json in the run folder.

    Args:
        cfg: Of the run; its `select` names a file of conf/sweep.
        validate: Trains a config and gives its objective on the validation actors; it never
            sees a test clip.
    """
    folder = Path(cfg.folder)
    scores = []
    grid = candidates(cfg.select)
    for number, overrides in enumerate(grid):
        candidate = _compose(cfg, overrides)
        candidate.folder = str(folder / f"candidate_{number}")
        candidate.logger = {}  # its score is in selection.json
        scores.append(validate(candidate))
        log.info("candidate %s: %s %.3f", " ".join(overrides), cfg.objective, scores[-1])
    winner = max(range(len(grid)), key=scores.__getitem__)  # of equals the first
    content = {
        "select": cfg.select,
        "objective": cfg.objective,
        "winner": grid[winner],
        "candidates": [
            {"overrides": overrides, "score": score}
            for overrides, score in zip(grid, scores, strict=True)
        ],
    }
    (folder / "selection.json").write_text(json.dumps(content, indent=2) + "\n")
    log.info("selected %s", " ".join(grid[winner]))
    return _compose(cfg, grid[winner])


def candidates(preset: str) -> list[list[str]]:
    """List the overrides of each job that a file of conf/sweep stands for."""
    loader = GlobalHydra.instance().config_loader()
    known = loader.get_group_options("sweep")
    if preset not in known:
        raise ValueError(f"select={preset!r} is unknown: expected one of {', '.join(known)}")
    preset = loader.load_configuration(
        HydraConfig.get().job.config_name, [f"sweep={preset}"], run_mode=RunMode.MULTIRUN
    )
    params = preset.hydra.sweeper.params
    texts = [f"{key}={values}" for key, values in params.items()]
    overrides = OverridesParser.create(loader).parse_overrides(texts)
    ((*jobs,),) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    return jobs


def _compose(cfg: DictConfig, overrides: list[str]) -> DictConfig:
    """Compose the run's own overrides with a candidate's; this fold stays this fold."""
    loader = GlobalHydra.instance().config_loader()
    given = list(HydraConfig.get().overrides.task)
    composed = loader.load_configuration(
        HydraConfig.get().job.config_name, [*given, *overrides], run_mode=RunMode.RUN
    )
    with open_dict(composed):
        del composed["hydra"]
    composed.fold, composed.folder, composed.group = cfg.fold, cfg.folder, cfg.group
    return composed
