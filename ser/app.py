"""A page to try trained models in the browser: `python -m ser.app ckpt=<a checkpoint>`."""

import os
import signal
from pathlib import Path
from tempfile import TemporaryDirectory

import hydra
from omegaconf import DictConfig, OmegaConf


@hydra.main(version_base="1.3", config_path="../conf", config_name="app")
def main(cfg: DictConfig) -> None:
    """Compose the config and show the page until Ctrl-C."""
    # As of Ctrl-C: a process that is told to end removes its files too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with TemporaryDirectory(prefix="ser-page-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # read while Gradio is imported
        # Imported here, so that --help answers at once.
        from ser.launch.run import one_line_errors

        with one_line_errors():
            try:
                from ser.page.server import serve
            except ModuleNotFoundError as error:
                raise ModuleNotFoundError(
                    f"the page needs Gradio ({error}): start with `uv run --extra app python -m"
                    " ser.app`"
                ) from error
            serve(folder=Path(folder), **OmegaConf.to_container(cfg, resolve=True))


if __name__ == "__main__":
    main()
