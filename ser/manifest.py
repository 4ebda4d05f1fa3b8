"""List recordings of one's own: `python -m ser.manifest data.root=<folder> out=clips.csv`."""

import logging

import hydra
from omegaconf import DictConfig, OmegaConf


@hydra.main(version_base="1.3", config_path="../conf", config_name="manifest")
def main(cfg: DictConfig) -> None:
    """Compose the config and write the manifest."""
    # Imported here, so that --help answers at once.
    from ser.corpora.listing import write_manifest
    from ser.launch.run import one_line_errors

    log = logging.getLogger(__name__)
    with one_line_errors():
        config = OmegaConf.to_container(cfg, resolve=True)
        written = write_manifest(**config.pop("data"), **config)
        log.info("next: python -m ser.doctor data.manifest=%s", written)


if __name__ == "__main__":
    main()
