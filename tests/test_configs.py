"""Every YAML is composed and what it describes is built."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

CONF = Path(__file__).parents[1] / "conf"
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
    HydraConfig.instance().cfg = None


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_is_composed_and_built(composed, group: str, option: str):
    # A front end that is no picture comes with the model that wants it.
    extra = ["model=svm"] if option == "functionals" else []
    cfg = composed("train", f"{group}={option}", *extra)
    data = instantiate(cfg.data)
    assert data.classes
    assert cfg.model._target_.startswith("ser.")
    model = instantiate(cfg.model, classes=data.classes)
    assert model.classes == data.classes
    callbacks = list(instantiate(cfg.callbacks).values())
    trainer = instantiate(cfg.trainer, logger=False, callbacks=callbacks)
    if "optimizer" in cfg:
        model.configure_optimizers()
    assert trainer.default_root_dir == str(cfg.trainer.default_root_dir)


def test_eval_is_composed_and_built(composed):
    cfg = composed("eval", "ckpt=best.ckpt")
    assert instantiate(cfg.trainer, logger=False).max_epochs is None
    assert cfg.split == "test"


def test_the_keys_of_a_config_are_the_arguments_of_its_class(composed):
    cfg = composed("train")
    for node in (cfg.window, cfg.protocol, cfg.frontend, cfg.augment, cfg.model.network):
        built = instantiate(node, **({"classes": 8, "bins": 40} if "CNN" in node._target_ else {}))
        assert f"{type(built).__module__}.{type(built).__name__}" == node._target_


def test_drop_sad_is_three_lines():
    lines = (CONF / "experiment" / "drop_sad.yaml").read_text().splitlines()
    assert len([line for line in lines if line and not line.startswith("#")]) == 3
