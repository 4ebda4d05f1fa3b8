"""Vote of runs: `python -m ser.ensemble 'runs=[<run>,<run>]' 'weights=[3,2]'`."""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf


@hydra.main(version_base="1.3", config_path="../conf", config_name="ensemble")
def main(cfg: DictConfig) -> None:
    """Compose the config and let the runs vote."""
    # Imported here, so that --help answers at once.
    from ser.evaluation.results import RunResult, vote
    from ser.launch.run import Run, one_line_errors
    from ser.reporting.run_report import show_report, write_result

    with one_line_errors(), Run(cfg.folder) as run:
        given = OmegaConf.to_container(cfg)
        folders = given.get("runs")
        if not isinstance(folders, list) or len(folders) < 2:
            raise ValueError(
                f"runs={folders}: expected two run folders or more, such as"
                " runs='[outputs/default/<time>,outputs/svm/<time>]'"
            )
        weights = check_weights(given.get("weights"), len(folders))
        runs = [RunResult.read(Path(str(folder)).expanduser()) for folder in folders]
        voted = vote(runs, weights, run.folder)
        write_result(voted)
        show_report(run.folder, voted.metrics)


def check_weights(given: object, count: int) -> list[float]:
    """Return the weights of the runs; null is as many ones.

    Raises:
        ValueError: They are no finite numbers from 0 on, one a run, or all of them are 0.
    """
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


if __name__ == "__main__":
    main()
