"""Fetch what is missing of the corpora: `python -m ser.download data.root=<folder>`."""

import hydra
from omegaconf import DictConfig, OmegaConf


@hydra.main(version_base="1.3", config_path="../conf", config_name="download")
def main(cfg: DictConfig) -> None:
    """Compose the config, fetch what is missing, and say what lies there then."""
    # Imported here, so that --help answers at once.
    from hydra.utils import instantiate

    from ser.launch import settings
    from ser.launch.run import one_line_errors

    with one_line_errors():
        settings.check_types(OmegaConf.to_container(cfg, resolve=True))
        try:
            _ = instantiate(cfg.data, download=True).scanned
        except KeyboardInterrupt:
            raise KeyboardInterrupt("start again, what is here is kept") from None


if __name__ == "__main__":
    main()
