"""Runs that vote: `python -m ser.ensemble 'runs=[<run>,<run>]' 'weights=[3,2]'`."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
import numpy as np
from omegaconf import DictConfig, OmegaConf

log = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path="../conf", config_name="ensemble")
def main(cfg: DictConfig) -> None:
    """Compose the config and let the runs vote."""
    # Imported here, so that --help answers at once.
    from ser.launch.run import Run, one_line_errors
    from ser.reporting import run_report as report

    with one_line_errors(), Run(cfg.folder) as run:
        runs = OmegaConf.to_container(cfg).get("runs")
        if not isinstance(runs, list) or len(runs) < 2:
            raise ValueError(
                f"runs={runs}: expected two run folders or more, such as"
                " runs='[outputs/default/<time>,outputs/svm/<time>]'"
            )
        weights = _weights(OmegaConf.to_container(cfg).get("weights"), len(runs))
        ensemble([Path(str(path)).expanduser() for path in runs], weights, run.folder)
        report.show_report(run.folder)


def _weights(given: object, count: int) -> list[float]:
    """Check the weights; null is as many ones."""
    if given is None:
        return [1] * count
    fine = isinstance(given, list) and all(
        type(weight) in (int, float) and 0 <= weight <= sys.float_info.max for weight in given
    )
    if not fine or len(given) != count or not any(given):
        raise ValueError(
            f"weights={given}: expected {count} numbers from 0 on, one a run and not all of them 0;"
            " null weighs the runs equally"
        )
    return given


def ensemble(runs: Sequence[Path], weights: Sequence[float], folder: Path) -> dict:
    """Average the probabilities of runs over one split; write the files of a run.

    Args:
        runs: Their folders.
        weights: One a run, from 0 on, in any scale.
        folder: Where to write.

    Returns:
        The content of metrics.json, which names the members (`runs`) and their `weights`.

    Raises:
        ValueError: A run is not finished, or two differ in split, classes or clips.
    """
    from ser.evaluation import pool
    from ser.evaluation import results as members
    from ser.evaluation.metrics import measure, tabulate
    from ser.reporting import run_report as report

    first, *others = found = [members.read(run) for run in runs]
    for other in others:
        members.check_same(first, other)
    classes = first.metrics["classes"]
    # Halved until the largest is below 1, which is exact: the sum of large ones would be infinite.
    scaled = np.ldexp(weights, -np.frexp(max(weights))[1])
    probabilities = np.average(
        [member.probabilities(first.predictions.index, classes) for member in found],
        axis=0,
        weights=scaled,
    )
    clips = first.predictions.loc[:, :"prediction"].iloc[:, :-1]
    predictions = tabulate(clips, classes, probabilities)
    metrics = measure(predictions, classes, members.facts(found))
    if first.metrics["fold"] == "all":
        metrics["over_folds"] = pool.over_folds(predictions)
    metrics |= {"runs": [str(run) for run in runs], "weights": list(weights)}
    first.splits.to_csv(folder / "split.csv", index=False)
    report.write_report(folder, predictions, metrics, [])
    for member, weight in zip(found, weights, strict=True):
        log.info("weight %g, UAR %.3f alone: %s", weight, member.metrics["uar"], member.folder)
    return metrics


if __name__ == "__main__":
    main()
