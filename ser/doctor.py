"""Compare recordings with the official releases: `python -m ser.doctor data.root=<folder>`.

With `data.manifest=<file>` the lines of a manifest are examined, and the clips that it lists.
Exit code 0: as released. 1: usable, with remarks. 2: not usable, or not to be examined.
"""

import traceback
from contextlib import suppress

import hydra
from omegaconf import DictConfig, OmegaConf


@hydra.main(version_base="1.3", config_path="../conf", config_name="doctor")
def main(cfg: DictConfig) -> None:
    """Compose the config and examine what lies below data.root, or what a manifest lists."""
    # Imported here, so that --help answers at once.
    from ser.integrity.diagnosis import diagnose
    from ser.integrity.listed import diagnose_manifest
    from ser.integrity.report import show_report, write_report
    from ser.launch.run import Run, one_line_errors

    code = 2  # also where nothing could be examined: 1 would say usable
    try:
        with suppress(SystemExit), one_line_errors(), Run(cfg.folder) as run:
            data = OmegaConf.to_container(cfg.data, resolve=True)
            manifest = data.pop("manifest")
            diagnosis = diagnose(**data) if manifest is None else diagnose_manifest(str(manifest))
            write_report(diagnosis, run.folder)
            show_report(diagnosis, run.folder)
            code = diagnosis.exit_code
    except Exception:  # noqa: BLE001 - a bug: of it too Hydra would make a 1
        traceback.print_exc()
    if code:
        raise SystemExit(code)


if __name__ == "__main__":
    main()
