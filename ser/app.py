"""A page to try trained models in the browser: `python -m ser.app ckpt=<a checkpoint>`."""

import hydra
from omegaconf import DictConfig, OmegaConf


@hydra.main(version_base="1.3", config_path="../conf", config_name="app")
def main(cfg: DictConfig) -> None:
    """Compose the config and show the page until Ctrl-C."""
    # Imported here, so that --help answers at once.
    from ser.launch.run import one_line_errors

    with one_line_errors():
        from ser.inference.server import serve

        serve(**OmegaConf.to_container(cfg, resolve=True))


if __name__ == "__main__":
    main()
