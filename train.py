"""Train and score one experiment: `python train.py data=demo`; `--help` lists the groups."""

import hydra
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Compose the config and run it."""
    # Imported here, so that --help answers at once and launchers can pickle this function.
    from ser.experiment import train

    return train(cfg)


if __name__ == "__main__":
    main()
