"""What an earlier start has finished: kept under the settings, and on the clips, of now."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from ser import folds, members


def objective(cfg: DictConfig) -> float | None:
    """Give the objective of a run that an earlier start has finished so; None where it must run."""
    status = Path(cfg.folder) / "status.json"
    content = json.loads(status.read_text()) if status.exists() else {"status": "missing"}
    if content["status"] != "finished":
        return None
    differing = folds.differences(status.parent, OmegaConf.to_container(cfg))
    return None if differing else content["objective"]


def check_folds(cfg: DictConfig) -> None:
    """Refuse to go on with folds that were finished under other settings, or on other clips."""
    finished = []
    for path in sorted(Path(cfg.folder).glob("fold_*/status.json")):
        if json.loads(path.read_text())["status"] != "finished":
            continue
        fold = folds.of(cfg, int(path.parent.name.removeprefix("fold_")))
        if differing := folds.differences(path.parent, OmegaConf.to_container(fold)):
            raise ValueError(
                f"{path.parent} was run with {differing[0]}: expected the settings it began with;"
                " take another hydra.run.dir"
            )
        finished.append(fold)
    check(finished)


def check_sweep(folder: Path) -> None:
    """Refuse to complete a sweep whose finished jobs know other clips than there are now."""
    for path in sorted(folder.glob("*/.hydra/config.yaml")):
        job = OmegaConf.load(path)
        job.folder = str(path.parents[1])
        if job.fold == "all":
            check_folds(job)
        else:
            check([job])


def check(runs: Sequence[DictConfig]) -> None:
    """Refuse runs that were finished on other clips than there are now.

    Args:
        runs: Configs of folds, or of candidates, over the same data; those not finished pass.
    """
    finished = [cfg for cfg in runs if objective(cfg) is not None]
    if not finished:
        return
    # Of a copy: it resolves what the configs are recorded and compared with.
    data = instantiate(copy.deepcopy(finished[0]).data)
    for cfg in finished:
        began = members.read_rows(Path(cfg.folder) / "split.csv")
        check_clips(cfg.folder, began, pd.DataFrame(data.record(cfg.fold)).set_index("name"))


def check_clips(source: str, began: pd.DataFrame, now: pd.DataFrame) -> None:
    """Refuse to go on with other clips than those that were begun with.

    Args:
        source: What goes on, for the message.
        began: The clips' `split` and `sha256` by name.
        now: The same of what there is now.

    Raises:
        ValueError: Clips are missing, new, in another split or sound different.
    """
    columns = ["split", "sha256"]
    both = began.index.intersection(now.index)
    changed = both[(began.loc[both, columns] != now.loc[both, columns]).any(axis=1)]
    other = [*began.index.symmetric_difference(now.index), *changed]
    if other:
        raise ValueError(
            f"{source} was trained on other clips: {len(other)} are missing, new, in another split"
            f" or sound different, such as {other[0]}; expected the data that it began with, or"
            " start a new run"
        )
