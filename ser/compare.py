"""Comparison of runs: `python -m ser.compare a=<run folder> b=<another>`."""

from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf


@hydra.main(version_base="1.3", config_path="../conf", config_name="compare")
def main(cfg: DictConfig) -> None:
    """Compose the config and compare one run with one or several."""
    # Imported here, so that --help answers at once.
    from ser.analysis import comparison
    from ser.evaluation.results import RunResult
    from ser.launch.run import Run, one_line_errors

    with one_line_errors(), Run(cfg.folder) as run:
        if cfg.a is None or cfg.b in (None, []):
            raise ValueError(
                f"a={cfg.a} b={cfg.b}: expected run folders, such as a=outputs/default/<time>"
                " b=outputs/svm/<time>, or several as b='[<run>,<run>]'"
            )
        folders = (cfg.a, *(cfg.b if OmegaConf.is_list(cfg.b) else [cfg.b]))
        a, *others = (RunResult.read(Path(str(folder)).expanduser()) for folder in folders)
        pairs = comparison.compare_several(a, others)
        comparison.write_comparison(run.folder, pairs)
        comparison.show_comparison(run.folder, pairs)


if __name__ == "__main__":
    main()
