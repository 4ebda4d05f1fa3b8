"""Pictures of a recording as the model sees it: `python -m ser.explore input=<file or clip>`.

Without `input` it describes the corpora below `data.root`.
"""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf


@hydra.main(version_base="1.3", config_path="../conf", config_name="explore")
def main(cfg: DictConfig) -> None:
    """Compose the config and draw a recording, or the corpora."""
    # Imported here, so that --help answers at once.
    from ser.analysis import corpus_stats, spectra
    from ser.checkpoints import trust
    from ser.launch import settings
    from ser.launch.run import Run, one_line_errors

    with one_line_errors(), Run(cfg.folder) as run:
        config = OmegaConf.to_container(cfg, resolve=True)
        settings.check_types(config)
        for name in ("mfcc", "logmel", "chroma"):
            trust.check(config[name], "frontend", name)
        if cfg.input is None:
            corpus_stats.write_statistics(instantiate(cfg.data), run.folder)
            return
        path = spectra.find_recording(str(cfg.input), cfg.data)
        frontends = (instantiate(cfg[name]) for name in ("mfcc", "logmel", "chroma"))
        window = instantiate(cfg.window, _convert_="all")
        drawn = spectra.Spectra(path, window, *frontends, nth=cfg.nth)
        spectra.write_spectra(drawn, run.folder)


if __name__ == "__main__":
    main()
