"""Search for good settings with Optuna: `python -m ser.tune model=cnn data=demo n_trials=10`.

It maximises `objective` over `space`, which `conf/search/<model>.yaml` sets. The same command again
goes on until `n_trials` have finished.
"""

from pathlib import Path

import hydra
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path="../conf", config_name="tune")
def main(cfg: DictConfig) -> None:
    """Compose the config, run the trials that are missing, and end with the table over all."""
    # Imported here, so that --help answers at once.
    from ser.experiment import train_fold
    from ser.launch.run import one_line_errors
    from ser.launch.run_folder import holding
    from ser.launch.sweep import summarise
    from ser.launch.tune import Study

    with one_line_errors(), holding(Path(cfg.folder)):
        study = Study(cfg)
        failed = study.run(train_fold)
        summarise(study.folder)
        study.log_best()
        if failed:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
