"""The folds of a cross-validation: a run each, and one result over all of them."""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from ser import report

SCORES = ("accuracy", "uar", "macro_f1", "weighted_f1")
OWN = ("fold", "folder", "group")
"""Root keys in which the folds of one cross-validation differ."""


def of(cfg: DictConfig, number: int) -> DictConfig:
    """Give the config of one fold, which runs in a folder of its own, and record it there."""
    folder = Path(cfg.folder)
    fold = copy.deepcopy(cfg)
    fold.fold = number
    fold.folder = str(folder / f"fold_{number}")
    fold.group = cfg.group or "/".join(folder.parts[-2:])
    return fold


def finished(cfg: DictConfig) -> float | None:
    """Give the objective of a fold that an earlier start has finished; None where it must run.

    Raises:
        ValueError: It was run with other settings than these.
    """
    folder = Path(cfg.folder)
    record = folder / ".hydra"
    if not (folder / "status.json").exists():
        record.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(cfg, record / "config.yaml")
        given = [text for text in HydraConfig.get().overrides.task if text != "fold=all"]
        OmegaConf.save([*given, f"fold={cfg.fold}"], record / "overrides.yaml")
        return None
    if differing := differences(folder, OmegaConf.to_container(cfg)):
        raise ValueError(
            f"{folder} was run with another {', '.join(differing)}: expected the settings it began"
            " with; take another hydra.run.dir"
        )
    status = json.loads((folder / "status.json").read_text())
    return status["objective"] if status["status"] == "finished" else None


def pool(folder: Path) -> dict:
    """Pool the finished folds in the folders below; write the files of a run beside them.

    Returns:
        The content of metrics.json.

    Raises:
        ValueError: A fold is missing or not finished, is there twice, or differs in more than
            its number.
    """
    runs = _find(folder)
    results = [json.loads((run / "metrics.json").read_text()) for run in runs]
    predictions = _join(runs, results)
    metrics = report.measure(predictions, results[0]["classes"], _facts(results))
    metrics["over_folds"] = {key: _spread([result[key] for result in results]) for key in SCORES}
    selections = [run / "selection.json" for run in runs if (run / "selection.json").exists()]
    if selections:
        metrics["selected"] = [json.loads(path.read_text())["winner"] for path in selections]
    _join_splits(runs, results).to_csv(folder / "split.csv", index=False)
    report.write(folder, predictions, metrics, [run / "metrics.csv" for run in runs])
    return metrics


def differences(one: Path, other: Mapping) -> list[str]:
    """List the root keys in which a run's recorded config differs from another config.

    Args:
        one: A run folder.
        other: A config, not resolved, as plain containers.
    """
    recorded = OmegaConf.to_container(OmegaConf.load(one / ".hydra" / "config.yaml"))
    keys = sorted({*recorded, *other} - {*OWN})
    return [key for key in keys if recorded.get(key) != other.get(key)]


def _find(folder: Path) -> list[Path]:
    """List the run folders below, by fold."""
    found = {}
    for run in sorted(path.parent for path in folder.glob("*/status.json")):
        status = json.loads((run / "status.json").read_text())["status"]
        if status != "finished" or not (run / "metrics.json").exists():
            raise ValueError(f"{run} is {status}: expected finished folds; run it again first")
        fold = json.loads((run / "metrics.json").read_text())["fold"]
        if fold in found:
            raise ValueError(
                f"fold {fold} is there twice, in {found[fold].name} and {run.name} of {folder}:"
                " expected the jobs of one setting that differ in fold alone"
            )
        found[fold] = run
    if not found:
        raise ValueError(f"pool={str(folder)!r} holds no runs: expected the folder of a multirun")
    if "all" in found:
        raise ValueError(f"{found['all']} is pooled already")
    return [found[fold] for fold in sorted(found)]


def _join(runs: Sequence[Path], results: Sequence[Mapping]) -> pd.DataFrame:
    """Put the folds' predictions below each other, with the column `fold` before the prediction."""
    first = results[0]
    absent = sorted(set(range(first["folds"])) - {result["fold"] for result in results})
    if absent:
        raise ValueError(f"folds {absent} of protocol {first['protocol']} are missing: run them")
    config = OmegaConf.to_container(OmegaConf.load(runs[0] / ".hydra" / "config.yaml"))
    for run in runs:
        if differing := differences(run, config):
            raise ValueError(
                f"{run.name} and {runs[0].name} differ in {', '.join(differing)}: expected one"
                " setting under every fold"
            )
    tables = []
    for run, result in zip(runs, results, strict=True):
        table = read_predictions(run)
        table.insert(table.columns.get_loc("prediction"), "fold", result["fold"])
        tables.append(table)
    predictions = pd.concat(tables, ignore_index=True)
    twice = predictions.path[predictions.path.duplicated()]
    if len(twice):
        raise ValueError(f"{len(twice)} clips are tested by two folds, such as {twice.iloc[0]}")
    return predictions


def read_predictions(run: Path) -> pd.DataFrame:
    """Read a run's predictions.csv as it was written."""
    return pd.read_csv(run / "predictions.csv", dtype={"actor": str})


def _join_splits(runs: Sequence[Path], results: Sequence[Mapping]) -> pd.DataFrame:
    """Give a row a clip, with the fold that tests it; clips that only train have none."""
    splits = pd.concat(
        [
            pd.read_csv(run / "split.csv", dtype={"actor": str}).assign(fold=result["fold"])
            for run, result in zip(runs, results, strict=True)
        ]
    )
    tested = splits[splits.split == "test"]
    others = splits[~splits.path.isin(tested.path)].drop_duplicates("path")
    others = others.assign(fold=None, split="train")
    return pd.concat([tested, others]).astype({"fold": "Int64"}).sort_values("path")


def _facts(results: Sequence[Mapping]) -> dict:
    seconds = pd.DataFrame([result["seconds"] for result in results]).sum().round(3)
    return {
        **results[0],
        "fold": "all",
        "audit": {
            "passed": all(result["audit"]["passed"] for result in results),
            "folds": [result["audit"] for result in results],
        },
        "seconds": seconds.to_dict(),
    }


def _spread(values: Sequence[float]) -> dict[str, object]:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "sd": deviation, "folds": list(values)}
