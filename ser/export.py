"""Export of a checkpoint: `python -m ser.export ckpt=outputs/.../best.ckpt to=model.onnx`.

`to=hub/` writes a folder for a model hub instead.
"""

from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf


@hydra.main(version_base="1.3", config_path="../conf", config_name="export")
def main(cfg: DictConfig) -> None:
    """Compose the config and write the file, or the folder."""
    # Imported here, so that --help answers at once.
    from ser.checkpoints.format import load_checkpoint
    from ser.inference import hub_folder
    from ser.launch import settings
    from ser.launch.run import Run, one_line_errors

    with one_line_errors(), Run(cfg.folder):
        settings.check_types(OmegaConf.to_container(cfg, resolve=True))
        path = Path(cfg.to or "").expanduser()
        if cfg.to is not None and (cfg.to.endswith("/") or path.is_dir() or not path.suffix):
            hub_folder.check(path, cfg.int8)
            loaded = load_checkpoint(cfg.ckpt, cfg.compiled, encoder=cfg.encoder)
            hub_folder.write(loaded, path.absolute(), cfg.encoder)
            return
        try:
            from ser.inference import onnx
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"{error}: what ONNX takes comes with an extra, uv run --extra onnx"
            ) from error
        onnx.check(path)
        loaded = load_checkpoint(cfg.ckpt, cfg.compiled, encoder=cfg.encoder)
        onnx.check_model(loaded)
        clips = onnx.find_clips(loaded, cfg.data, cfg.cache, cfg.int8)
        onnx.write(loaded, path, clips, cfg.int8)


if __name__ == "__main__":
    main()
