"""Score a checkpoint: `python eval.py ckpt=outputs/.../checkpoints/best.ckpt`."""

import hydra
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path="conf", config_name="eval")
def main(cfg: DictConfig) -> None:
    """Compose the config and run it."""
    # Imported here, so that --help answers at once.
    from ser.experiment import evaluate

    evaluate(cfg)


if __name__ == "__main__":
    main()
