"""Stress card of a checkpoint: `python -m ser.stress ckpt=outputs/.../checkpoints/best.ckpt`."""

import hydra
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path="../conf", config_name="stress")
def main(cfg: DictConfig) -> None:
    """Compose the config and score the test clips under each condition."""
    # Imported here, so that --help answers at once.
    from hydra.core.hydra_config import HydraConfig

    from ser.audio import conditions
    from ser.inference import stress
    from ser.launch import settings
    from ser.launch.run import Run, one_line_errors
    from ser.training.fit import build_trainer
    from ser.training.processes import check_devices

    with one_line_errors(), Run(cfg.folder) as run:
        settings.check(cfg)
        check_devices(cfg, HydraConfig.get())
        names = conditions.choose(cfg.conditions)
        checkpoints = stress.find_checkpoints(cfg.ckpt)
        card = stress.measure(
            checkpoints,
            names,
            build_trainer(cfg),
            seed=cfg.seed,
            compiled=cfg.compiled,
            encoder=cfg.encoder,
            root=cfg.data.root,
            manifest=cfg.data.manifest,
            on_error=cfg.data.on_error,
            cache=cfg.cache.dir,
            cache_max_gb=cfg.cache.max_gb,
        )
        stress.write_card(run.folder, card)
        stress.add_to_model_cards(checkpoints, card)
        stress.show_card(run.folder, card)


if __name__ == "__main__":
    main()
