"""Every YAML is composed and what it describes is built."""

import inspect
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, MissingConfigException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from ser.checkpoints.sizes import build_network
from ser.checkpoints.trust import GIVEN
from ser.features.frontend import build_frontend
from ser.launch.settings import check
from ser.launch.tune import distributions

CONF = Path(__file__).parents[2] / "conf"
OPTIONS = sorted(
    (path.parent.relative_to(CONF).as_posix(), path.stem)
    for path in CONF.glob("*/*.yaml")
    if path.parent.name != "hydra"
)
ELSEWHERE = {
    "ser.data.datamodule.EmotionDataModule": {  # train.yaml, hydra/base/servers.yaml
        "protocol", "fold", "normalize", "refit", "seed", "servers",
    },
    "ser.features.augment.Noise": {"features"},  # by the defaults of noise.yaml
    "ser.launch.run_folder.RunFolder": {"exit_code"},  # doctor.yaml adds it
    "ser.models.gender_split.GenderSplit": {"gender", "emotion"},  # of the group estimator
    "ser.reporting.wandb.wandb_logger": {"id", "resume"},  # resume= adds them
    "ser.training.restart.CurvesLogger": {"prefix", "flush_logs_every_n_steps"},  # Lightning's
    "ser.training.estimator.EstimatorClassifier": {"estimator"},  # of the group estimator
}  # fmt: skip
"""Arguments that no node with the `_target_` names, as they are set elsewhere."""


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
def test_every_option_is_composed_and_built(
    composed, with_encoder, tmp_path: Path, group: str, option: str
):
    # What only a classical model wants comes with one, and an encoder with a probe.
    vectors = ("compare", "egemaps", "functionals", "mean_mfcc", "means", "one_pass")
    extra = ["model=svm"] if option in vectors or group == "estimator" else []
    extra += ["channel=none"] if option in ("mfcc_chroma", "mel_image") else []
    extra += with_encoder.get(option, [])
    if option == "manifest":
        rows = [f"{name}.wav,{name},x\n" for name in ("joy", "grief")]
        (tmp_path / "clips.csv").write_text("path,label,speaker\n" + "".join(rows))
        for name in ("joy", "grief"):
            (tmp_path / f"{name}.wav").touch()
        extra.append(f"data.manifest={tmp_path / 'clips.csv'}")
    place = {"estimator": "estimator@model.estimator", "search": "model"}.get(group, group)
    cfg = composed("tune" if group == "search" else "train", f"{place}={option}", *extra)
    if group == "search":
        assert distributions(OmegaConf.to_container(cfg.space))
        for key in cfg.space:
            assert OmegaConf.select(cfg, key) is not None, key
    data = instantiate(cfg.data)
    assert data.labels.classes
    assert cfg.model._target_.startswith("ser.")
    callbacks = list(instantiate(cfg.callbacks).values())
    instantiate(cfg.trainer, logger=False, callbacks=callbacks)
    if cfg.frontend._target_.endswith("MelImage"):
        recipe = OmegaConf.to_container(cfg.model, resolve=True)
        frontend = build_frontend(recipe["frontend"], recipe["network"])
        network = build_network(recipe["network"], data.labels.classes, frontend)
        instantiate(recipe["optimizer"], params=network.parameters())
        return
    model = instantiate(cfg.model, classes=data.labels.classes)
    assert model.classes == data.labels.classes
    if "optimizer" in cfg:
        model.configure_optimizers()


def test_eval_is_composed_and_built(composed):
    cfg = composed("eval", "ckpt=best.ckpt")
    assert instantiate(cfg.trainer, logger=False).max_epochs is None
    assert cfg.split == "test"


def test_stress_is_composed_and_built(composed):
    cfg = composed("stress", "ckpt=best.ckpt")
    assert instantiate(cfg.trainer, logger=False).progress_bar_callback is None
    with open_dict(cfg):
        del cfg["hydra"]
    check(cfg)


def test_a_misspelt_option_is_refused(composed):
    for override in ("experiment=drop_sda", "model=cnnn", "data.drops=[sad]"):
        with pytest.raises((MissingConfigException, ConfigCompositionException)):
            composed("train", override)


def recipes(node: object) -> Iterator[Mapping]:
    """Yield the nodes of a YAML file that name a class or a function of this project."""
    if isinstance(node, Mapping):
        if str(node.get("_target_")).startswith("ser."):
            yield node
        node = list(node.values())
    for child in node if isinstance(node, list) else ():
        yield from recipes(child)


def test_every_argument_of_what_is_built_stands_in_a_yaml():
    named = defaultdict(set)
    for path in CONF.rglob("*.yaml"):
        for recipe in recipes(OmegaConf.to_container(OmegaConf.load(path))):
            named[recipe["_target_"]] |= recipe.keys()
    assert len(named) > 25
    given = {name for names in GIVEN.values() for name in names}
    for target, names in named.items():
        taken = set(inspect.signature(get_object(target)).parameters)
        if target.startswith("ser.splits."):
            taken -= {"name"}  # a protocol's name is no choice
        assert taken - given - ELSEWHERE.get(target, set()) <= names, target


def test_a_presets_share_of_a_random_split_is_of_protocol_random_alone(composed):
    for preset, share in (("ravtess_tree", 0.33), ("ravtess_mlp", 0.25), ("knn", None)):
        assert composed("train", f"experiment={preset}", "protocol=random").protocol.test_size == (
            share
        )
        assert "test_size" not in composed("train", f"experiment={preset}").protocol
    own = composed("train", "experiment=ravtess_tree", "protocol=random", "protocol.test_size=0.5")
    assert own.protocol.test_size == 0.5


HELP = """
import runpy, sys
from contextlib import suppress
from hydra.core.global_hydra import GlobalHydra

for name in sys.argv[1:]:
    sys.argv = [name, "--help"]
    run = runpy.run_path if name.endswith(".py") else runpy.run_module
    with suppress(SystemExit):
        run(name, run_name="__main__")
    GlobalHydra.instance().clear()
    heavy = {"gradio", "lightning", "matplotlib", "pandas", "scipy", "torch", "wandb"}
    print("imported:", sorted(heavy & set(sys.modules)))
"""


def test_help_is_quick_because_it_imports_nothing_heavy_and_is_found_from_anywhere(tmp_path: Path):
    shown = {
        str(
            CONF.parent / "train.py"
        ): "protocol: cross_corpus, emobox6, given, holdout, kfold, loso",
        "ser.app": "port: 7860",
        "ser.compare": "b: null",
        "ser.doctor": "modality:",
        "ser.ensemble": "weights: null",
        "ser.explore": "input: null",
        "ser.export": "int8: false",
        "ser.manifest": "pattern: null",
        "ser.stress": "conditions: null",
    }
    done = subprocess.run(
        [sys.executable, "-c", HELP, *shown],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    *helps, rest = done.stdout.split("imported: []\n")
    assert rest == ""
    for text, expected in zip(helps, shown.values(), strict=True):
        assert expected in text
    listed = helps[0].partition("== Config ==")[0]
    groups = re.findall(r"^([\w/]+): ", listed, re.MULTILINE)
    assert "model" in groups
    assert [group for group in groups if "/" in group] == []  # shared parts are no choices


def test_drop_sad_is_three_lines():
    lines = (CONF / "experiment" / "drop_sad.yaml").read_text().splitlines()
    assert len([line for line in lines if line and not line.startswith("#")]) == 3
