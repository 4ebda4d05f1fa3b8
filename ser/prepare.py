"""Cache of a run, filled without training: `python -m ser.prepare data.root=/corpora`."""

import hydra
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path="../conf", config_name="prepare")
def main(cfg: DictConfig) -> None:
    """Compose the config and fill a share of the cache."""
    # Imported here, so that --help answers at once.
    import logging

    from ser.launch import settings
    from ser.launch.run import Run, one_line_errors
    from ser.training.fit import prepare

    with one_line_errors(), Run(cfg.folder):
        settings.check(cfg)
        if cfg.shard >= cfg.shards:
            raise ValueError(f"shard={cfg.shard} of shards={cfg.shards}: expected 0 to shards - 1")
        count = prepare(cfg, (cfg.shard, cfg.shards))
        logging.getLogger(__name__).info("%d clips are in the cache", count)


if __name__ == "__main__":
    main()
