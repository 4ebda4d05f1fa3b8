"""RunResult, a finished run read back from its folder; pooled folds and ensembles of runs."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from ser.config.differences import differences
from ser.config.split_info import EXPOSURE, STAMPS, SplitInfo, joint_stamps
from ser.evaluation.metrics import measure, scores, tabulate
from ser.evaluation.statistics import speakers_of
from ser.evaluation.status import check_finished

log = logging.getLogger(__name__)

ROW = ("label", "split", "fold", "sha256")
"""Columns, where they are, in which the rows of a clip agree under one split."""


@dataclass(frozen=True)
class RunResult:
    """Metrics, predictions and split of a finished run.

    Attributes:
        folder: The run folder.
        split_info: Under which protocol and fold the clips were parted.
        metrics: The content of metrics.json.
        predictions: Rows of predictions.csv by clip; probabilities and `temperature` are numbers,
            `unsure` is a truth value, all else is text.
        splits: Rows of split.csv by clip, all of them text.
        folds: Folders of the folds, where they were pooled here.
    """

    folder: Path
    split_info: SplitInfo
    metrics: dict
    predictions: pd.DataFrame
    splits: pd.DataFrame
    folds: Sequence[Path] = ()

    @classmethod
    def read(cls, folder: Path) -> "RunResult":
        """Read a finished run.

        Raises:
            ValueError: It is not finished, lacks a file, or one is damaged.
        """
        metrics = read_metrics(folder)
        predictions = read_clips(path := folder / "predictions.csv")
        try:
            predictions = predictions.astype(dict.fromkeys(_columns(metrics["classes"]), float))
            if "temperature" in predictions:
                predictions["temperature"] = predictions.temperature.astype(float)
            if "unsure" in predictions:
                predictions["unsure"] = predictions.unsure == "True"
        except (ValueError, KeyError) as error:
            raise _damaged(path, error) from error
        splits = read_clips(folder / "split.csv")
        return cls(folder, SplitInfo.read(metrics), metrics, predictions, splits)

    def probabilities(self, clips: Sequence[str], classes: Sequence[str]) -> np.ndarray:
        """Return the probabilities of these clips and classes, in their order: (clips, classes)."""
        return self.predictions.loc[clips, _columns(classes)].to_numpy()

    def require_same(self, keys: Sequence[str], other: "RunResult", expected: str) -> None:
        """Refuse a run that differs in these keys of metrics.json, and name the first."""
        for key in keys:
            if self.metrics[key] != other.metrics[key]:
                raise ValueError(
                    f"{key} is {self.metrics[key]} in {self.folder} and {other.metrics[key]} in"
                    f" {other.folder}: expected {expected}"
                )

    def require_same_clips(self, other: "RunResult") -> None:
        """Refuse a run that differs in split, classes or clips, and name the first difference."""
        self.require_same((*_parted_by(), "split"), other, "runs under one split")
        for one, another in ((self, other), (other, self)):
            known = another.metrics["classes"]
            if classes := [name for name in one.metrics["classes"] if name not in known]:
                raise ValueError(
                    f"{one.folder} knows {', '.join(classes)} and {another.folder} does not:"
                    " expected runs of the same classes"
                )
        for file, table, others in (
            ("split.csv", self.splits, other.splits),
            ("predictions.csv", self.predictions, other.predictions),
        ):
            mine, theirs = (self.folder, table.index), (other.folder, others.index)
            for (one, clips), (another, known) in ((mine, theirs), (theirs, mine)):
                if len(lacking := clips.difference(known)):
                    raise ValueError(
                        f"{len(lacking)} clips are in {file} of {one} and not of {another},"
                        f" such as {lacking[0]}: expected runs of the same clips"
                    )
            others = others.loc[table.index]
            for column in table.columns.intersection(ROW):
                differing = table.index[table[column] != others[column]]
                if len(differing):
                    clip = differing[0]
                    raise ValueError(
                        f"{column} of {len(differing)} clips differs in {file}: that of {clip} is"
                        f" {table.at[clip, column]} in {self.folder} and {others.at[clip, column]}"
                        f" in {other.folder}; expected runs of the same clips under one split"
                    )


def read_metrics(folder: Path) -> dict:
    """Read metrics.json of a finished run.

    Raises:
        ValueError: The run is not finished, has none, or it is damaged.
    """
    check_finished(folder)
    return _read_metrics(folder / "metrics.json")


def _read_metrics(path: Path) -> dict:
    _check_there(path)
    try:
        metrics = json.loads(path.read_text())
        metrics |= asdict(SplitInfo.read(metrics))
        _ = [metrics[key] for key in ("split", "classes", "uar", "audit", "seconds")]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error
    return metrics


def read_clips(path: Path) -> pd.DataFrame:
    """Read split.csv or predictions.csv as text, indexed by the column `clip`.

    Raises:
        ValueError: It is not there, or is damaged.
    """
    _check_there(path)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        table.index = table["clip"].to_list()
        if table.empty:
            raise ValueError("it has no rows")
        if not table.index.is_unique:
            raise ValueError(f"it has two rows of {table.index[table.index.duplicated()][0]}")
    except (ValueError, KeyError) as error:
        raise _damaged(path, error) from error
    return table


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise ValueError(
            f"{path.parent} holds no {path.name}: expected the folder of a finished run that scored"
            " clips of known emotion, such as outputs/default/<time>"
        )


def _damaged(path: Path, error: Exception) -> ValueError:
    reason = f"it lacks {error}" if isinstance(error, KeyError) else error
    return ValueError(f"{path} is damaged ({reason}): run it again")


def _columns(classes: Sequence[str]) -> list[str]:
    return [f"p_{name}" for name in classes]


def _parted_by() -> list[str]:
    """List the keys of metrics.json that say how the clips were parted."""
    return [field.name for field in fields(SplitInfo) if field.name not in STAMPS]


def vote(runs: Sequence[RunResult], weights: Sequence[float], folder: Path) -> RunResult:
    """Average the probabilities of runs over one split.

    Args:
        runs: Two or more.
        weights: One a run, from 0 on, in any scale.
        folder: Of the result; nothing is written.

    Returns:
        The result, whose metrics name the `runs` and their `weights`.

    Raises:
        ValueError: Two runs differ in split, classes or clips.
    """
    first, *others = runs
    for other in others:
        first.require_same_clips(other)
    classes = first.metrics["classes"]
    # Halved until the largest is below 1, which is exact: the sum of large ones would be infinite.
    scaled = np.ldexp(weights, -np.frexp(max(weights))[1])
    probabilities = np.average(
        [run.probabilities(first.predictions.index, classes) for run in runs],
        axis=0,
        weights=scaled,
    )
    clips = first.predictions.loc[:, :"prediction"].iloc[:, :-1]
    predictions = tabulate(clips, classes, probabilities)
    split_info = replace(first.split_info, **joint_stamps(run.split_info for run in runs))
    # One split has one audit.
    split, audit = first.metrics["split"], first.metrics["audit"]
    metrics = measure(predictions, classes, split_info, split, audit, _seconds(runs))
    if split_info.fold == "all":
        metrics["over_folds"] = over_folds(predictions)
    metrics |= {"runs": [str(run.folder) for run in runs], "weights": list(weights)}
    for run, weight in zip(runs, weights, strict=True):
        log.info("weight %g, UAR %.3f alone: %s", weight, run.metrics["uar"], run.folder)
    return RunResult(folder, split_info, metrics, predictions, first.splits)


def _seconds(runs: Sequence[RunResult]) -> dict[str, float]:
    return pd.DataFrame([run.metrics["seconds"] for run in runs]).sum().round(3).to_dict()


def pool(folder: Path, parts: str = "*") -> RunResult:
    """Pool the finished folds in the folders below: each clip is scored by the fold that tests it.

    Args:
        folder: Of a multirun over folds, or of a cross-validation; nothing is written.
        parts: Pattern of the folds' folders; others are left alone.

    Raises:
        ValueError: A fold is missing or not finished, is there twice, or differs in more than
            its number, such as in its clips.
    """
    runs = _read_folds(folder, parts)
    if (path := folder / "metrics.json").is_file() and (of := _read_metrics(path)["fold"]) != "all":
        raise ValueError(
            f"pool={str(folder)!r} holds a run of its own (fold {of}), which the pooled files"
            " would replace: expected the folder of a multirun"
        )
    _require_one_setting(runs)
    predictions = _join_predictions(runs)
    splits = _join_splits(runs, predictions)
    first, audits = runs[0], [run.metrics["audit"] for run in runs]
    split_info = replace(
        first.split_info, fold="all", **joint_stamps(run.split_info for run in runs)
    )
    audit = {
        "passed": all(audit["passed"] for audit in audits),
        "folds": audits,
        # Not said by runs of before there was data.on_error.
        "unreadable": {
            path: reason for audit in audits for path, reason in audit.get("unreadable", {}).items()
        },
    }
    split, classes = first.metrics["split"], first.metrics["classes"]
    abstain = (first.metrics.get("selective") or {}).get("accepted")
    metrics = measure(predictions, classes, split_info, split, audit, _seconds(runs), abstain)
    metrics["over_folds"] = over_folds(predictions)
    selections = [run.folder / "selection.json" for run in runs]
    if selected := [json.loads(path.read_text()) for path in selections if path.exists()]:
        metrics["selected"] = [selection["winner"] for selection in selected]
    folds = [run.folder for run in runs]
    return RunResult(folder, split_info, metrics, predictions, splits, folds)


def _read_folds(folder: Path, parts: str) -> list[RunResult]:
    """Read the runs below, in the order of their folds."""
    found = {}
    for path in sorted(folder.glob(f"{parts}/status.json")):
        run = RunResult.read(path.parent)
        fold = run.split_info.fold
        if fold in found:
            raise ValueError(
                f"fold {fold} is there twice, in {found[fold].folder.name} and {run.folder.name} of"
                f" {folder}: expected the jobs of one setting that differ in fold alone"
            )
        found[fold] = run
    if not found:
        raise ValueError(f"pool={str(folder)!r} holds no runs: expected the folder of a multirun")
    if "all" in found:
        raise ValueError(f"{found['all'].folder} is pooled already")
    return [found[fold] for fold in sorted(found)]


def _require_one_setting(runs: Sequence[RunResult]) -> None:
    """Refuse folds that are missing, or whose runs differ in more than the fold."""
    first = runs[0]
    # What an encoder has heard may be the corpus that one fold tests, and not the other.
    stamps = [stamp for stamp in STAMPS if stamp not in EXPOSURE]
    keys = [key for key in (*_parted_by(), *stamps, "split", "classes") if key != "fold"]
    for run in runs:
        first.require_same(keys, run, "one setting under every fold")
    info = first.split_info
    absent = sorted(set(range(info.folds)) - {run.split_info.fold for run in runs})
    if absent:
        raise ValueError(f"folds {absent} of protocol {info.protocol} are missing: run them")
    config = OmegaConf.to_container(OmegaConf.load(first.folder / ".hydra" / "config.yaml"))
    for run in runs:
        if differing := differences(run.folder, config):
            raise ValueError(
                f"{run.folder.name} was run with {differing[0]} as {first.folder.name}: expected"
                " one setting under every fold"
            )


def _join_predictions(runs: Sequence[RunResult]) -> pd.DataFrame:
    """Put the folds' predictions below each other, with the column `fold` before the prediction."""
    predictions = pd.concat([run.predictions.assign(fold=run.split_info.fold) for run in runs])
    place = predictions.columns.get_loc("prediction")
    predictions.insert(place, "fold", predictions.pop("fold"))
    twice = predictions.index[predictions.index.duplicated()]
    if len(twice):
        raise ValueError(f"{len(twice)} clips are tested by two folds, such as {twice[0]}")
    return predictions


def _join_splits(runs: Sequence[RunResult], predictions: pd.DataFrame) -> pd.DataFrame:
    """Return a row a clip, with the fold that tests it; clips that only train have none."""
    first = runs[0]
    for run in runs:
        if strangers := sorted({*speakers_of(run.splits)} ^ {*speakers_of(first.splits)}):
            raise ValueError(
                f"{run.folder.name} and {first.folder.name} know different speakers"
                f" ({', '.join(strangers)}): expected the same recordings under every fold"
            )
    config = OmegaConf.load(first.folder / ".hydra" / "config.yaml")
    known = pd.concat([run.splits for run in runs])
    known = known[~known.index.duplicated()]
    for run in runs:
        lacking = known[~known.index.isin(run.splits.index)]
        if "tested" in config.protocol:  # it leaves out one whole sentence of each tested speaker
            spoken = speakers_of(run.splits) + run.splits.statement
            left_out = ~(speakers_of(lacking) + lacking.statement).isin(spoken)
            lacking = lacking[~(left_out & lacking.corpus.isin(predictions.corpus))]
        if len(lacking):
            raise ValueError(
                f"{run.folder.name} lacks {len(lacking)} clips of the other folds, such as"
                f" {lacking.index[0]}: expected the same recordings under every fold"
            )
    splits = pd.concat([run.splits.assign(fold=run.split_info.fold) for run in runs])
    altered = splits.groupby("clip").sha256.nunique()
    if (altered > 1).any():
        raise ValueError(
            f"{(altered > 1).sum()} clips changed between the folds, such as {altered.idxmax()}:"
            " expected the same recordings under every fold"
        )
    tested = splits[splits.split == "test"]
    if other := sorted(set(tested.index) ^ set(predictions.index)):
        raise ValueError(
            f"{len(other)} clips are scored but not tested, or tested but not scored, such as"
            f" {other[0]}: expected each fold to score the clips that it tests; run it again"
        )
    others = splits[~splits.index.isin(tested.index)].drop_duplicates("clip")
    others = others.assign(fold=None, split="train")
    return pd.concat([tested, others]).astype({"fold": "Int64"}).sort_values("path")


def over_folds(predictions: pd.DataFrame) -> dict[str, dict]:
    """Return mean and deviation of each score over the folds, and its value in each."""
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
