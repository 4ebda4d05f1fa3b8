"""What an earlier start has finished, and the clips that it was finished on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from ser.data import datamodule
from ser.training import folds, kept


def finish(cfg: DictConfig) -> None:
    """Leave what a run leaves, without training."""
    folder = Path(cfg.folder)
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(cfg, folder / ".hydra" / "config.yaml")
    (folder / "status.json").write_text(json.dumps({"status": "finished", "objective": 0.5}))
    data = instantiate(OmegaConf.create(OmegaConf.to_container(cfg, resolve=True)).data)
    data.setup("fit")
    data.table.to_csv(folder / "split.csv", index=False)
    (folder / "predictions.csv").touch()


@pytest.fixture
def cfg(few: Path, cache: Path, tmp_path: Path) -> DictConfig:
    """A finished job of three folds, the first of a sweep; its data lie in `data`."""
    shutil.copytree(few, tmp_path / "data")
    protocol = {"_target_": "ser.splits.protocols.KFold", "folds": 3, "val_speakers": 2}
    data = {
        "_target_": "ser.data.datamodule.EmotionDataModule",
        "_convert_": "all",
        "root": str(tmp_path / "data"),
        "protocol": protocol,
        "window": {"_target_": "ser.audio.window.Window", "seconds": 3.0, "start": {}},
        "fold": "${fold}",
        "cache": str(cache),
    }
    cfg = {"fold": "all", "folder": str(tmp_path / "sweep" / "0"), "overwrite": False}
    cfg = OmegaConf.create(cfg | {"data": data})
    for number in (0, 2):
        finish(folds.of(cfg, number))
    (tmp_path / "sweep" / "0" / ".hydra").mkdir()
    OmegaConf.save(cfg, tmp_path / "sweep" / "0" / ".hydra" / "config.yaml")
    return cfg


def remove(path: Path) -> None:
    path.unlink()


def add(path: Path) -> None:
    shutil.copy(path, path.with_name(path.name.replace("-02-01-01.wav", "-02-02-01.wav")))


def alter(path: Path) -> None:
    shutil.copy(path.with_name(path.name.replace("-05-01-", "-06-01-")), path)


@pytest.mark.parametrize("change", [remove, add, alter])
def test_what_was_finished_on_other_clips_is_refused(
    cfg: DictConfig, change: Callable[[Path], None], tmp_path: Path
):
    def candidate() -> None:
        kept.check([folds.of(cfg, 2)])

    checks = (lambda: kept.check(folds.begun(cfg)), lambda: kept.check_sweep(tmp_path / "sweep"))
    for check in (*checks, candidate):
        check()
    assert kept.outcome(folds.of(cfg, 2))["objective"] == 0.5
    assert kept.outcome(folds.of(cfg, 1)) is None
    change(tmp_path / "data" / "Actor_01" / "03-01-05-01-02-01-01.wav")
    for check in (*checks, candidate):
        with pytest.raises(
            ValueError, match=r"fold_\d was trained on other clips: \d+ are"
        ) as said:
            check()
        assert str(said.value).endswith("another hydra.run.dir, or overwrite=true to replace it")
    cfg.data.protocol.val_speakers = 3
    with pytest.raises(
        ValueError, match=r"fold_0 was run with data\.protocol\.val_speakers: 2, not 3"
    ):
        folds.begun(cfg)
    kept.check([folds.of(cfg, 2)])  # of other settings: it runs again


def test_a_sweep_of_an_earlier_version_is_compared_with_one_scan(
    cfg: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its jobs lack keys of now; one that may overwrite is finished all the same."""
    scans = []
    scan = datamodule.scan
    monkeypatch.setattr(datamodule, "scan", lambda *given: scans.append(given) or scan(*given))
    for number in (1, 2):
        job = folds.of(cfg, number)
        job.folder, job.overwrite = str(tmp_path / "sweep" / str(number)), True
        finish(job)
    del job.overwrite, job.fold
    job.data.fold = 2
    OmegaConf.save(job, Path(job.folder) / ".hydra" / "config.yaml")
    scans.clear()
    kept.check_sweep(tmp_path / "sweep")
    assert len(scans) == 1  # for four runs whose data differ in fold alone
    split = tmp_path / "sweep" / "1" / "split.csv"
    split.write_text(split.read_text().replace(",val,", ",test,"))
    with pytest.raises(ValueError, match="1 was trained on other clips"):
        kept.check_sweep(tmp_path / "sweep")
