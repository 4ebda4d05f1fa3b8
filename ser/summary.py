"""Table over the jobs of a multirun: `python -m ser.summary sweep=<folder>` (`pool=` its folds)."""

from contextlib import nullcontext
from pathlib import Path

import hydra
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path="../conf/hydra/command", config_name="summary")
def main(cfg: DictConfig) -> None:
    """Write the table of a multirun, or pool its folds into one result."""
    # Imported here, so that --help answers at once.
    from ser.evaluation.results import pool
    from ser.launch import run_folder
    from ser.launch.run import one_line_errors
    from ser.launch.sweep import summarise
    from ser.reporting.run_report import show_report, write_result

    with one_line_errors():
        if (cfg.sweep is None) == (cfg.pool is None):
            raise ValueError(
                f"sweep={cfg.sweep} pool={cfg.pool}: expected one of them, the folder of a multirun"
            )
        folder = Path(str(cfg.sweep if cfg.pool is None else cfg.pool)).expanduser()
        if cfg.pool is None:
            if not summarise(folder):
                raise ValueError(
                    f"sweep={str(folder)!r} holds no jobs: expected a multirun's folder"
                )
            return
        with run_folder.holding(folder) if folder.is_dir() else nullcontext():
            pooled = pool(folder)
            write_result(pooled)
        show_report(folder, pooled.metrics)


if __name__ == "__main__":
    main()
