"""Every value of conf/ set wrongly is one line that names its key, before anything is done."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from ser.launch import settings
from ser.training import committee
from ser.training.processes import quiet_lightning

CONF = Path(__file__).parents[2] / "conf"
GROUPS = (
    "augment", "callbacks", "frontend", "logger", "model", "optimizer", "protocol", "scheduler",
    "trainer", "window",
)  # fmt: skip
CLASSICAL = {"compare", "egemaps", "functionals", "mean_mfcc", "means", "one_pass"}
WRONG = {
    bool: ["abc", 2, 1.5, [True], {"a": 1}],
    int: ["abc", "1.5x", {"a": 1}, [[1]], True],
    float: ["abc", "1.5x", {"a": 1}, [[1]], True],
    str: [3, 1.5, True, ["a"], {"a": 1}],
    list: ["abc", 3, True, [[[1]]], {"a": 1}],
    type(None): [[[[1]]], {"a": {"b": 1}}, [{"a": 1}], {"a": [[1]]}, [[{}]]],
}
"""Five values that nobody means, by the type of the right one."""

FINE = [
    ("model.autocast", True),
    ("model.estimator.max_features", 3),
    *[("trainer.devices", value) for value in (3, "abc")],
    *[(f"logger.{name}.version", 3) for name in ("csv", "tensorboard")],
]
"""What is no mistake, or not seen before the device is asked for."""


@pytest.fixture
def composed(tmp_path: Path) -> Iterator[object]:
    folder = tmp_path / "settings"
    quiet_lightning()

    def build(*overrides: str, name: str = "train") -> DictConfig:
        cfg = compose(name, [f"cache.dir={folder}", *overrides], return_hydra_config=True)
        with open_dict(cfg):
            cfg.hydra.runtime.output_dir = str(folder / "run")
            HydraConfig.instance().set_config(cfg)
            del cfg["hydra"]
        return cfg

    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield build
    assert not folder.exists()


def leaves(node: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield the values that a user sets, by key; what refers to another key is that key."""
    if isinstance(node, Mapping) and node:
        for key, child in node.items():
            yield from leaves(child, f"{path}.{key}" if path else key)
    elif node != {} and "${" not in str(node) and not path.endswith("._target_"):
        yield path, node


def options() -> Iterator[object]:
    """Yield the options of each group; those of one kind with a faster one are slow."""
    for group in GROUPS:
        for number, path in enumerate(sorted((CONF / group).glob("*.yaml"))):
            fast = number == 0 or path.stem in ("cnn", "svm")
            yield pytest.param(group, path.stem, marks=() if fast else pytest.mark.slow)


@pytest.mark.parametrize(("group", "option"), list(options()))
def test_a_wrong_value_anywhere_is_one_line_that_names_its_key(
    composed, with_encoder, group, option
):
    extra = ["model=svm"] if option in CLASSICAL else with_encoder.get(option, [])
    cfg = composed(f"{group}={option}", *extra)
    settings.check(cfg)
    whole = OmegaConf.to_container(cfg)
    # The keys of the other groups are those of their own turn.
    mine = leaves(whole if option == "cnn" else {group: whole[group]})
    for key, value in mine:
        for wrong in WRONG[type(value)]:
            # Of scikit-learn's numbers, true is one.
            if (key, wrong) in FINE or ("estimator" in key and wrong is True):
                continue
            altered = cfg.copy()
            OmegaConf.update(altered, key, wrong, merge=False, force_add=True)
            with pytest.raises(ValueError, match=r"\S") as caught:  # noqa: PT012
                settings.check(altered)
                pytest.fail(f"{key}={wrong!r} is taken for {value!r}")
            assert "\n" not in str(caught.value)
            assert key.split(".")[-1] in str(caught.value), (key, wrong, str(caught.value))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("trainer.max_epochs=abc", "trainer.max_epochs='abc': expected a whole number"),
        ("trainer.max_epochs=1.5", "trainer.max_epochs=1.5: expected a whole number"),
        ("model.label_smoothing=2", "model.label_smoothing=2: expected at most 1"),
        ("model.label_smoothing=abc", "model.label_smoothing='abc': expected a number"),
        ("window.seconds=abc", "window.seconds='abc': expected a number"),
        ("frontend.hop_length=0", "frontend.hop_length=0: expected at least 1"),
        ("frontend.n_fft=0", "frontend.n_fft=0: expected at least 16"),
        ("frontend.bins=0", "frontend.bins=0: expected at least 1"),
        ("frontend.bins=200", "frontend.bins=200: Cannot select"),
        ("data.sample_rate=100", "data.sample_rate=100: expected at least 4000"),
        ("data.sample_rate=44100.5", "data.sample_rate=44100.5: expected a whole number"),
        ("data.corpora=[]", "data.corpora=[]: expected "),
        ("augment.time_masks=-1", "augment.time_masks=-1: expected at least 0"),
        ("model.network.widths=[0]", "model.network.widths=[0]: expected at least 1"),
        ("model.network.widths=[]", "model.network.widths=[]: expected "),
        ("optimizer.lr=abc", "optimizer.lr='abc': expected a number"),
        ("optimizer.lr=-1", "optimizer.lr=-1"),
        ("+optimizer.betas=[2,0.9]", "optimizer.betas=[2, 0.9]: Invalid beta parameter"),
        ("+sed=3", "sed=3 is no key of a run: see --help, or is it one of seed"),
        ("window.seconds=1e-5", "window.seconds"),
        ("window.seconds=1000", "frontend.hop_length=480 makes 100001 frames"),
        ("trainer.devices=abc", "trainer.devices='abc': "),
        ("scheduler.T_0=0", "scheduler.T_0=0"),
        ("seed=-1", "seed=-1: expected at least 0"),
        ("window.threshold_db=foo", "window.threshold_db='foo': expected a number"),
        ("+window.treshold_db=-30", "window.treshold_db=-30, which ser.audio.window.Window does"),
        ("window.start=onste", "window.start='onste': expected 'corpus' or 'onset' or a mapping"),
        ("window.start={tes:1.0}", "window.start.tes: expected one of ravdess, tess, cremad,"),
        ("window.start={tess:-1.0}", "window.start.tess=-1.0: expected at least 0"),
        ("cache.max_gb=-1", "cache.max_gb=-1: expected more than 0 or null"),
        ("data.servers.retries=-1", "data.servers.retries=-1: expected at least 0"),
        ("data.servers.timeout=0", "data.servers.timeout=0: expected more than 0"),
        ("name=../x", "name='../x': expected "),
        ("objective=test/uar", "objective='test/uar': expected 'val/uar', "),
        ("callbacks.best.monitor=test/uar", "callbacks.best.monitor='test/uar' may decide nothing"),
        ("callbacks.best.mode=up", "callbacks.best.mode='up'"),
        ("protocol=random protocol.val_size=1.5", "protocol.val_size=1.5: expected less than 1"),
        ("model=svm model.estimator._args_.1.estimator.C=-1", "C': -1"),
        ("model=conv1d frontend=logmel", "expected frontend=functionals, compare or egemaps"),
        (
            "model=conv1d frontend=egemaps +frontend.parts=[mfcc]",
            "frontend.parts=['mfcc'], which ser.features.opensmile.OpenSmile",
        ),
        ("data.drop=[sat]", "did you mean 'sad'?"),
        ("data.drop=[4]", "data.drop=[4]: expected text"),
        ("data.drop=sad", "expected a list or null, such as '[sad]'"),
        ("data.merge={clam:neutral}", "unknown emotion 'clam'"),
        ("data.channels=speech", "expected a list, such as '[speech]'"),
        ("data.channels=[spoken]", "expected 'speech' or 'song'"),
        ("data.batch_size=many", "data.batch_size='many'"),
        ("frontend=functionals", "expected frontend=mfcc"),
        ("model=svm frontend=mfcc", "expected frontend=functionals"),
        (
            "scheduler._target_=sklearn.linear_model.Ridge",
            "the config asks to build 'sklearn.linear_model.Ridge'",
        ),
        ("trainer.accelerator=gpu", "gpu"),
        ("protocol=luna5 protocol.folds=3", "protocol.folds=3: expected a list"),
        ("protocol=kfold fold=first", "fold='first': expected a whole number or 'all'"),
        ("normalize=voice", "normalize='voice': expected 'speaker' or null"),
        ("model=svm objective=val/uas", "objective='val/uas': expected 'val/uar'"),
        ("objective=cv/uar", "objective=cv/uar is for classical models"),
        ("model=svm +trainer.max_epochs=1", "trainer.max_epochs=1: a classical model is fitted"),
        ("ensemble=1", "ensemble=1: expected at least 2 or a list or null"),
        ("ensemble=11", "ensemble=11: expected at most 10 or a list or null"),
        ("ensemble=['seed=1']", "ensemble=['seed=1']: expected "),
        ("ensemble=['seed=1','sed=1']", "ensemble.1 sets sed=1"),
        (
            "ensemble=['seed=1','model=svm'] optimizer.lr=1",
            "ensemble.1 sets model=svm, which does not fit",
        ),
        ("ensemble=['seed=1','optimizer.lr=abc']", "optimizer.lr='abc': expected a number"),
        ("ensemble=['seed=1','data.drop=[sad]']", "data.drop=[sad], which changes data.drop"),
        ("ensemble=['seed=1','window.seconds=1']", "which changes data.window"),
        ("ensemble=['seed=1','select=svm_regularisation']", "which changes select"),
        ("ensemble=2 select=svm_regularisation", "select=svm_regularisation with ensemble="),
        ("ensemble=2 refit=true", "refit=True with ensemble="),
        ("ensemble=2 normalize=speaker", "normalize=speaker with ensemble="),
        ("ensemble=2 model=svm objective=cv/uar", "objective=cv/uar with ensemble="),
        ("ensemble=2 ensemble_weights=[1]", "ensemble_weights=[1]: expected "),
        ("ensemble=2 ensemble_weights=[0,0]", "for each of 2 members, one of them above 0"),
        (
            "ensemble=2 ensemble_weights=[1,2,3]",
            "ensemble_weights=[1, 2, 3]: expected a number for",
        ),
        ("ensemble=2 ensemble_weights=test", "ensemble_weights='test': expected "),
        ("ensemble_weights=val", "ensemble_weights='val' without members"),
        (
            "ensemble=2 objective=null ensemble_weights=val",
            "ensemble_weights=val with objective=null",
        ),
    ],
)
def test_what_a_value_must_be_is_said(composed, given: str, words: str):
    cfg = composed(*given.split())
    with pytest.raises(ValueError, match=r"\S") as caught:
        settings.check(cfg)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model", ["cnn", "svm"])
def test_members_compose_from_any_model_of_the_run(composed, model: str):
    cfg = composed("experiment=best_from_scratch", f"model={model}")
    settings.check(cfg)
    members = [member for _, member in committee.members(cfg)]
    assert [Path(member.folder).name for member in members] == [f"member_{n}" for n in range(5)]
    assert [member.seed for member in members] == [0, 1, 2, 0, 0]
    targets = [member.model.get("estimator", member.model.get("network")) for member in members]
    named = ["CNN"] * 3 + ["LogisticRegression", "SVC"]
    assert all(name in str(target) for name, target in zip(named, targets, strict=True))
    assert [member.frontend._target_.rpartition(".")[2] for member in members] == [
        *["MFCC"] * 3,
        "OpenSmile",
        "Functionals",
    ]


def test_a_wrong_start_writes_nothing(tmp_path: Path):
    command = [sys.executable, CONF.parent / "train.py", "optimizer.lr=abc"]
    done = subprocess.run(
        [*command, f"hydra.run.dir={tmp_path / 'run'}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "optimizer.lr='abc': expected a number\n"
    assert not list(tmp_path.iterdir())
