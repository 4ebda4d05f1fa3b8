"""Fetch what is missing of the corpora: `python -m ser.download data.root=<folder>`."""

import logging

import hydra
from omegaconf import DictConfig, OmegaConf

log = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path="../conf", config_name="download")
def main(cfg: DictConfig) -> None:
    """Compose the config, fetch what is missing, and say what lies there then."""
    # Imported here, so that --help answers at once.
    from hydra.utils import instantiate

    from ser.checkpoints import trust
    from ser.corpora.scan import check_selection, scan
    from ser.launch.run import one_line_errors

    with one_line_errors():
        data = OmegaConf.to_container(cfg, resolve=True)["data"]
        trust.check(data["servers"], "servers", "data.servers")
        selection = [data[key] for key in ("corpora", "channels", "modality")]
        check_selection(*selection)
        try:
            instantiate(data["servers"]).fetch(data["root"], *selection)
            log.info(scan(data["root"], data["modality"]).describe())
        except KeyboardInterrupt:
            raise KeyboardInterrupt("start again, what is here is kept") from None


if __name__ == "__main__":
    main()
