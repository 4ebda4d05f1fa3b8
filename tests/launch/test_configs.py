"""Every YAML is composed and what it describes is built."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, MissingConfigException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

CONF = Path(__file__).parents[2] / "conf"
OPTIONS = sorted(
    (path.parent.relative_to(CONF).as_posix(), path.stem)
    for path in CONF.glob("*/*.yaml")
    if path.parent.name != "hydra"
)


@pytest.fixture
def composed(tmp_path: Path, cache: Path) -> Iterator[object]:
    def build(name: str, *overrides: str) -> DictConfig:
        cfg = compose(name, [f"cache.dir={cache}", *overrides], return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        OmegaConf.set_readonly(cfg.hydra, False)
        with open_dict(cfg):
            cfg.hydra.runtime.output_dir = str(tmp_path)
        HydraConfig.instance().set_config(cfg)
        return cfg

    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield build


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_is_composed_and_built(composed, group: str, option: str):
    # What only a classical model wants comes with one.
    extra = ["model=svm"] if option in ("functionals", "one_pass") or group == "estimator" else []
    place = {"estimator": "estimator@model.estimator", "search": "model"}.get(group, group)
    extra += ["sweep=tune"] if group == "search" else []
    cfg = composed("train", f"{place}={option}", *extra)
    if group == "search":
        for key in cfg.hydra.sweeper.params:
            assert OmegaConf.select(cfg, key) is not None, key
    data = instantiate(cfg.data)
    assert data.classes
    assert cfg.model._target_.startswith("ser.")
    model = instantiate(cfg.model, classes=data.classes)
    assert model.classes == data.classes
    callbacks = list(instantiate(cfg.callbacks).values())
    instantiate(cfg.trainer, logger=False, callbacks=callbacks)
    if "optimizer" in cfg:
        model.configure_optimizers()


def test_eval_is_composed_and_built(composed):
    cfg = composed("eval", "ckpt=best.ckpt")
    assert instantiate(cfg.trainer, logger=False).max_epochs is None
    assert cfg.split == "test"


def test_a_misspelt_option_is_refused(composed):
    for override in ("experiment=drop_sda", "model=cnnn", "data.drops=[sad]"):
        with pytest.raises((MissingConfigException, ConfigCompositionException)):
            composed("train", override)


def test_help_is_quick_because_it_imports_nothing_heavy():
    script = (
        "import runpy, sys; sys.argv = ['train.py', '--help']\n"
        "try: runpy.run_path('train.py', run_name='__main__')\n"
        "finally: print({'torch', 'lightning', 'pandas', 'wandb'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=CONF.parent, capture_output=True, text=True, check=True
    )
    assert "protocol: cross_corpus, emobox6, holdout, kfold, loso, luna5, random" in done.stdout
    assert done.stdout.splitlines()[-1] == "set()"


def test_drop_sad_is_three_lines():
    lines = (CONF / "experiment" / "drop_sad.yaml").read_text().splitlines()
    assert len([line for line in lines if line and not line.startswith("#")]) == 3
