"""Look at recordings as the model sees them: `python -m ser.explore input=<file or clip>`.

Without `input` it describes the corpora below `data.root`.
"""

from pathlib import Path

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf


@hydra.main(version_base="1.3", config_path="../conf", config_name="explore")
def main(cfg: DictConfig) -> None:
    """Compose the config and draw a recording, or the corpora."""
    # Imported here, so that --help answers at once.
    from ser.analysis import corpus_stats as inventory
    from ser.analysis import spectra
    from ser.checkpoints import trust as allowed
    from ser.launch import settings
    from ser.launch.run import Run, one_line_errors

    with one_line_errors(), Run(cfg.folder) as run:
        config = OmegaConf.to_container(cfg, resolve=True)
        settings.check_types(config)
        for name in ("mfcc", "logmel", "chroma"):
            allowed.check(config[name], "frontend", name)
        if cfg.input is None:
            inventory.write(instantiate(cfg.data), run.folder)
            return
        path = find(str(cfg.input), cfg.data)
        frontends = (instantiate(cfg[name]) for name in ("mfcc", "logmel", "chroma"))
        window = instantiate(cfg.window, _convert_="all")
        spectra.write(spectra.Spectra(path, window, *frontends, nth=cfg.nth), run.folder)


def find(name: str, data: DictConfig) -> Path:
    """Find a recording by its path, or by its official name below the root of the data.

    Raises:
        ValueError: It is neither.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    module = instantiate(data)
    root = Path(module.root).expanduser()
    if root.is_dir() and not path.is_dir():
        clips = (clip.path for clip in module.found.clips)
        for file in (*clips, *module.found.unasked):
            if name in (file.stem, file.name):
                return file
    state = "is a folder" if path.is_dir() else f"is neither a file nor a clip below {root}"
    raise ValueError(
        f"input={name!r} {state}: expected an audio file, or the name of a clip below data.root,"
        " such as 03-01-05-01-02-01-16; without input the corpora below data.root are described (a"
        " path with commas, brackets, = or letters outside ASCII needs quotes inside quotes:"
        " 'input=\"/données\"')"
    )


if __name__ == "__main__":
    main()
