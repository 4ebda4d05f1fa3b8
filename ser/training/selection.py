"""Nested selection: candidates and epochs compared on the validation speakers of one fold."""

import copy
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import product
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from ser.checkpoints.format import Checkpoint, load_checkpoint
from ser.evaluation.calibration import Calibration
from ser.training import kept

log = logging.getLogger(__name__)

OPEN = ("data.window", "data.batch_size", "data.shuffle_block", "data.seed")
"""What may be searched of the data: neither who tests nor what is scored."""


def choose(
    cfg: DictConfig, validate: Callable[[DictConfig], float]
) -> tuple[DictConfig, float, Calibration | None]:
    """Train each candidate; return the config of the best, its score, and what a refit keeps of it.

    What each scored, and which won, is written to selection.json in the run folder. Candidates
    that an earlier start has finished are kept; one that cannot be trained is out of the race.
    With `refit` that config trains on the validation clips too, for as many epochs as were best,
    and validates on none: it keeps the calibration of the best.

    Args:
        cfg: Of the run; its `select` names a file of conf/sweep, or the run is the one candidate.
        validate: Trains a config and returns its objective on the validation speakers; it never
            sees a test clip.

    Raises:
        ValueError: The preset is unknown, changes what the score is of, none can be trained, or one
            was finished on other clips.
    """
    if cfg.objective is None:
        raise ValueError(
            f"objective=null with {'refit=true' if cfg.refit else f'select={cfg.select}'}: expected"
            " what chooses on the validation speakers, such as val/uar"
        )
    folder = Path(cfg.folder)
    grid = candidates(cfg.select) if cfg.select else [[]]
    # A refit alone is of the run as it is: a trial's draws are in no override of the start.
    configs = [_candidate(cfg, each) for each in grid] if cfg.select else [copy.deepcopy(cfg)]
    # Their scores are in selection.json.
    runs = [within(config, f"candidate_{number}") for number, config in enumerate(configs)]
    kept.check(runs)
    scores = []
    for candidate, overrides in zip(runs, grid, strict=True):
        named = " ".join(overrides) or "as the run is"
        try:
            (score,) = kept.settle([(candidate, overrides)], validate)
        except ValueError as error:
            if not cfg.select:
                raise
            log.warning("candidate %s failed: %s", named, error)
            score, reason = None, error
        else:
            log.info("candidate %s: %s %.3f", named, cfg.objective, score)
        scores.append(score)
    if all(score is None for score in scores):
        raise ValueError(f"select={cfg.select}: no candidate could be trained ({reason})")
    # Of equals the first.
    winner = max(range(len(grid)), key=lambda at: -1 if scores[at] is None else scores[at])
    content = {
        "select": cfg.select,
        "objective": cfg.objective,
        "leaky": instantiate(cfg.protocol, _convert_="all").leaky,
        "winner": grid[winner],
        "candidates": [
            {"overrides": overrides, "score": score}
            for overrides, score in zip(grid, scores, strict=True)
        ],
    }
    (folder / "selection.json").write_text(json.dumps(content, indent=2) + "\n")
    if cfg.select:
        log.info("selected %s", " ".join(grid[winner]))
    if not cfg.refit:
        return configs[winner], scores[winner], None
    best = load_checkpoint(Path(runs[winner].folder) / "checkpoints" / "best.ckpt")
    _prolong(configs[winner], best)
    return configs[winner], scores[winner], best.calibration


def _prolong(cfg: DictConfig, chosen: Checkpoint) -> None:
    """Let a config train without validation for the epochs that were best in a finished run."""
    cfg.objective = None
    if cfg.trainer.get("max_epochs") is not None:
        cfg.trainer.max_epochs = chosen.epoch + 1
        log.info(
            "trains once more, on all but the test speakers: %d epochs", cfg.trainer.max_epochs
        )


def first(cfg: DictConfig) -> DictConfig:
    """Return the config of the first candidate: the run's own may be one that cannot be built."""
    return _candidate(cfg, candidates(cfg.select)[0])


def candidates(preset: str) -> list[list[str]]:
    """List the overrides of each job that a file of conf/sweep stands for."""
    try:
        params = _compose([f"sweep={preset}"]).hydra.sweeper.params
    except MissingConfigException as error:
        known = ", ".join(error.options or ())
        raise ValueError(f"select={preset!r} is unknown: expected one of {known}") from error
    texts = [f"{key}={values}" for key, values in (params or {}).items()]
    choices = [
        [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
        if override.is_sweep_override()
        else [override.input_line]
        for override in OverridesParser.create().parse_overrides(texts)
    ]
    return [list(job) for job in product(*choices)]


def _candidate(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    return variant(cfg, overrides, f"select={cfg.select} sets {' '.join(overrides)}")


def variant(
    cfg: DictConfig, overrides: Sequence[str], source: str, free: Sequence[str] = OPEN
) -> DictConfig:
    """Compose the run's own overrides with others; this fold stays this fold.

    Args:
        cfg: Of the run.
        overrides: The others.
        source: What has set them, for messages.
        free: What they may change of the data.

    Raises:
        ValueError: They do not compose, or change what the score is of.
    """
    job = HydraConfig.get()
    composed = compose_run(job.job.config_name, [*job.overrides.task, *overrides], source)
    for key in ("fold", "folder", "group", "overwrite"):
        composed[key] = cfg[key]
    if changed := changes(composed, cfg, free):
        raise ValueError(
            f"{source}, which changes {changed[0]}: expected what leaves the clips, the protocol"
            " and the objective as they are"
        )
    return composed


def within(cfg: DictConfig, name: str) -> DictConfig:
    """Return the config of a plain run in a folder below that of a run, without loggers."""
    part = copy.deepcopy(cfg)
    part.folder = str(Path(cfg.folder) / name)
    part.logger, part.select, part.refit = {}, None, False
    return part


def compose_run(name: str, overrides: Sequence[str], source: str) -> DictConfig:
    """Compose the config of a run within this one, without Hydra's own part.

    Args:
        name: Of the primary config.
        overrides: All of the run's.
        source: What has set the last of them, for the message.

    Raises:
        ValueError: They do not compose.
    """
    try:
        composed = _compose(overrides, name)
    except HydraException as error:
        line = str(error).partition("\n")[0]
        raise ValueError(
            f"{source}, which does not fit this run ({line}): expected values for its model"
        ) from error
    with open_dict(composed):
        del composed["hydra"]
    return composed


def changes(candidate: DictConfig, cfg: DictConfig, free: Sequence[str] = OPEN) -> list[str]:
    """List the keys that decide who tests or what is scored, and differ between two configs.

    Those that are `free` may.
    """
    data = sorted({*candidate.data, *cfg.data})
    keys = ("fold", "protocol", "objective", "normalize", "select", "resume")
    keys += tuple(f"data.{key}" for key in data)
    return [
        key
        for key in keys
        if key not in free and OmegaConf.select(candidate, key) != OmegaConf.select(cfg, key)
    ]


def _compose(overrides: Sequence[str], name: str | None = None) -> DictConfig:
    """Compose the config of this start with other overrides."""
    job = HydraConfig.get()
    (source,) = (one.path for one in job.runtime.config_sources if one.provider == "main")
    # A job that a launcher has sent elsewhere has no context of its own.
    here = GlobalHydra.instance().is_initialized()
    with nullcontext() if here else initialize_config_dir(source, version_base="1.3"):
        return compose(name or job.job.config_name, list(overrides), return_hydra_config=True)
