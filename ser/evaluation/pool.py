"""One result over the folds of a cross-validation: each clip scored by the fold that tests it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from omegaconf import OmegaConf

from ser.config.differences import differences
from ser.evaluation.metrics import measure, scores
from ser.evaluation.status import check_finished
from ser.reporting import run_report as report

SHARED = (
    "protocol", "protocol_version", "protocol_hash", "folds", "split", "leaky", "transductive",
    "classes",
)  # fmt: skip
"""Keys of metrics.json in which the folds of one result agree."""


def pool(folder: Path, parts: str = "*") -> dict:
    """Pool the finished folds in the folders below; write the files of a run beside them.

    Args:
        folder: Of a multirun over folds, or of a cross-validation.
        parts: Pattern of the folds' folders; others are left alone.

    Returns:
        The content of metrics.json.

    Raises:
        ValueError: A fold is missing or not finished, is there twice, or differs in more than
            its number, such as in its clips.
    """
    runs = _find(folder, parts)
    if (folder / "metrics.json").is_file():
        of = json.loads((folder / "metrics.json").read_text()).get("fold")
        if of != "all":
            raise ValueError(
                f"pool={str(folder)!r} holds a run of its own (fold {of}), which the pooled files"
                " would replace: expected the folder of a multirun"
            )
    results = [json.loads((run / "metrics.json").read_text()) for run in runs]
    predictions = _join(runs, results)
    splits = _join_splits(runs, results, predictions)
    metrics = measure(predictions, results[0]["classes"], _facts(results))
    metrics["over_folds"] = over_folds(predictions)
    selections = [run / "selection.json" for run in runs if (run / "selection.json").exists()]
    if selections:
        metrics["selected"] = [json.loads(path.read_text())["winner"] for path in selections]
    splits.to_csv(folder / "split.csv", index=False)
    report.write_report(folder, predictions, metrics, [run / "metrics.csv" for run in runs])
    return metrics


def _find(folder: Path, parts: str) -> list[Path]:
    """List the run folders below, by fold."""
    found = {}
    for run in sorted(path.parent for path in folder.glob(f"{parts}/status.json")):
        check_finished(run)
        if not (run / "metrics.json").exists():
            raise ValueError(f"{run} has no metrics.json: expected finished folds")
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
    for run, result in zip(runs, results, strict=True):
        for key in SHARED:
            if result[key] != first[key]:
                raise ValueError(
                    f"{key} is {first[key]} in {runs[0].name} and {result[key]} in {run.name}:"
                    " expected one setting under every fold"
                )
    absent = sorted(set(range(first["folds"])) - {result["fold"] for result in results})
    if absent:
        raise ValueError(f"folds {absent} of protocol {first['protocol']} are missing: run them")
    config = OmegaConf.to_container(OmegaConf.load(runs[0] / ".hydra" / "config.yaml"))
    for run in runs:
        if differing := differences(run, config):
            raise ValueError(
                f"{run.name} was run with {differing[0]} as {runs[0].name}: expected one setting"
                " under every fold"
            )
    tables = []
    for run, result in zip(runs, results, strict=True):
        table = pd.read_csv(run / "predictions.csv", dtype={"speaker": str})
        table.insert(table.columns.get_loc("prediction"), "fold", result["fold"])
        tables.append(table)
    predictions = pd.concat(tables, ignore_index=True)
    twice = predictions.path[predictions.path.duplicated()]
    if len(twice):
        raise ValueError(f"{len(twice)} clips are tested by two folds, such as {twice.iloc[0]}")
    return predictions


def _join_splits(
    runs: Sequence[Path], results: Sequence[Mapping], predictions: pd.DataFrame
) -> pd.DataFrame:
    """Give a row a clip, with the fold that tests it; clips that only train have none."""
    tables = [pd.read_csv(run / "split.csv", dtype={"speaker": str}) for run in runs]
    for run, table in zip(runs, tables, strict=True):
        if set(table.speaker) != set(tables[0].speaker):
            strangers = sorted(set(table.speaker) ^ set(tables[0].speaker))
            raise ValueError(
                f"{run.name} and {runs[0].name} know different speakers ({', '.join(strangers)}):"
                " expected the same recordings under every fold"
            )
    config = OmegaConf.load(runs[0] / ".hydra" / "config.yaml")
    known = pd.concat(tables, ignore_index=True).drop_duplicates("path")
    for run, table in zip(runs, tables, strict=True):
        lacking = known[~known.path.isin(table.path)]
        if "tested" in config.protocol:  # it leaves out one whole sentence of each RAVDESS speaker
            spoken = known.speaker + known.statement
            left_out = (known.corpus == "ravdess") & ~spoken.isin(table.speaker + table.statement)
            lacking = lacking[~left_out[lacking.index]]
        if len(lacking):
            raise ValueError(
                f"{run.name} lacks {len(lacking)} clips of the other folds, such as"
                f" {lacking.path.iloc[0]}: expected the same recordings under every fold"
            )
    splits = pd.concat(
        table.assign(fold=result["fold"]) for table, result in zip(tables, results, strict=True)
    )
    altered = splits.groupby("path").sha256.nunique()
    if (altered > 1).any():
        raise ValueError(
            f"{(altered > 1).sum()} clips changed between the folds, such as {altered.idxmax()}:"
            " expected the same recordings under every fold"
        )
    tested = splits[splits.split == "test"]
    if other := sorted(set(tested.path) ^ set(predictions.path)):
        raise ValueError(
            f"{len(other)} clips are scored but not tested, or tested but not scored, such as"
            f" {other[0]}: expected each fold to score the clips that it tests; run it again"
        )
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
            # Not said by runs of before there was data.on_error.
            "unreadable": {
                path: reason
                for result in results
                for path, reason in result["audit"].get("unreadable", {}).items()
            },
        },
        "seconds": seconds.to_dict(),
    }


def over_folds(predictions: pd.DataFrame) -> dict[str, dict]:
    """Give mean and deviation of each score over the folds, and its value in each."""
    folds = pd.DataFrame(
        [
            scores(rows.label.to_numpy(str), rows.prediction.to_numpy(str))
            for _, rows in predictions.groupby(predictions.fold.astype(int))
        ]
    )
    return {
        score: {
            "mean": float(values.mean()),
            "sd": float(values.std()) if len(values) > 1 else None,
            "folds": values.to_list(),
        }
        for score, values in folds.items()
    }
