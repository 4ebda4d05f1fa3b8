from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ser import checkpoint


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small classifier, as Lightning and Recipe write it."""
    from ser.classifier import EmotionClassifier

    frontend = {"_target_": "ser.frontend.LogMel", "bins": 8, "n_fft": 512}
    network = {"_target_": "ser.models.cnn.CNN", "widths": [4]}
    model = EmotionClassifier(["calm", "sad"], frontend, network, {"_target_": "torch.optim.Adam"})
    content = {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
    }
    config = {"data": {"root": "data"}, "model": {"_target_": "ser.classifier.EmotionClassifier"}}
    split = {"name": ["a"], "split": ["test"], "sha256": ["0"]}
    checkpoint.Recipe(config, split, {"leaky": False}).on_save_checkpoint(None, None, content)
    path = tmp_path_factory.mktemp("checkpoint") / "best.ckpt"
    torch.save(content, path)
    return path


def altered(saved: Path, folder: Path, change: Callable[[dict], None]) -> Path:
    content = torch.load(saved, weights_only=True)
    change(content)
    torch.save(content, folder / "altered.ckpt")
    return folder / "altered.ckpt"


def test_a_checkpoint_builds_its_own_model(saved: Path):
    loaded = checkpoint.load(saved)
    weights = torch.load(saved, weights_only=True)["state_dict"]
    assert all(
        torch.equal(value, weights[name]) for name, value in loaded.model.state_dict().items()
    )
    assert not loaded.model.training
    assert loaded.model.classes == ["calm", "sad"]
    assert loaded.split["split"].to_dict() == {"a": "test"}


@pytest.mark.parametrize(
    "target",
    [
        "torch.utils.collect_env.run",
        "torch.hub.load",
        "torch.nn.modules.module.warnings.warn",  # through a module's own imports
        "ser.experiment.Path",
        "ser.data.audio.Parallel",
        "ser.experiment.train",
        "os.system",
        "builtins.eval",
        "sklearn.utils.fixes.parse_version",
    ],
)
def test_code_outside_the_list_is_refused_at_any_depth(saved: Path, tmp_path: Path, target: str):
    def plant(content: dict) -> None:
        deep = [{"more": {"_target_": target}}]
        content["hyper_parameters"]["network"]["widths"] = deep

    with pytest.raises(ValueError, match=f"asks to build '{target}'.*no code of it was run"):
        checkpoint.load(altered(saved, tmp_path, plant))

    def plant_in_data(content: dict) -> None:
        content["ser"]["config"]["data"]["root"] = {"_target_": target}

    with pytest.raises(ValueError, match=f"asks to build '{target}'"):
        checkpoint.load(altered(saved, tmp_path, plant_in_data))


@pytest.mark.parametrize("place", ["data", "arguments"])
def test_a_resolver_is_refused_before_it_resolves(saved: Path, tmp_path: Path, place: str):
    planted = "${oc.create:{_target_:builtins.print,_args_:[ran]}}"

    def plant(content: dict) -> None:
        if place == "data":
            content["ser"]["config"]["data"]["window"] = planted
        else:
            content["hyper_parameters"]["frontend"]["bins"] = planted

    with pytest.raises(ValueError, match="asks to resolve"):
        checkpoint.load(altered(saved, tmp_path, plant))


def test_only_the_two_classifiers_are_models(saved: Path, tmp_path: Path):
    def plant(content: dict) -> None:
        content["ser"]["config"]["model"]["_target_"] = "torch.nn.Linear"

    with pytest.raises(ValueError, match=r"holds a 'torch\.nn\.Linear'"):
        checkpoint.load(altered(saved, tmp_path, plant))


def test_a_checkpoint_without_a_part_is_one_line(saved: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="no checkpoint of ser"):
        checkpoint.load(altered(saved, tmp_path, lambda content: content["ser"].pop("config")))
    with pytest.raises(ValueError, match="cannot be built or filled"):
        checkpoint.load(
            altered(saved, tmp_path, lambda content: content["hyper_parameters"].update(depth=3))
        )


@pytest.mark.parametrize("planted", [None, [1, 2], torch.zeros(9, dtype=torch.uint8)])
def test_an_estimator_that_is_no_bytes_of_one_is_one_line(
    saved: Path, tmp_path: Path, planted: object
):
    def plant(content: dict) -> None:
        content["ser"]["config"]["model"]["_target_"] = "ser.estimator.EstimatorClassifier"
        content["hyper_parameters"] = {
            "classes": ["calm", "sad"],
            "frontend": {"_target_": "ser.frontend.Functionals"},
            "estimator": {"_target_": "sklearn.svm.SVC"},
        }
        content["estimator"] = planted

    with pytest.raises(ValueError, match=r"cannot be built or filled|is not what skops writes"):
        checkpoint.load(altered(saved, tmp_path, plant))


def test_foreign_files_are_one_line(saved: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="not a file"):
        checkpoint.load(tmp_path / "absent.ckpt")
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    with pytest.raises(ValueError, match="no checkpoint of ser"):
        checkpoint.load(tmp_path / "text.ckpt")
    (tmp_path / "empty.ckpt").touch()
    with pytest.raises(ValueError, match=r"no checkpoint of ser \(.+\)"):
        checkpoint.load(tmp_path / "empty.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="no checkpoint of ser"):
        checkpoint.load(tmp_path / "other.ckpt")
    torch.save({"ser": print}, tmp_path / "pickle.ckpt")
    with pytest.raises(ValueError, match="no checkpoint of ser"):
        checkpoint.load(tmp_path / "pickle.ckpt")


def test_another_format_or_shape_says_who_wrote_it(saved: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"format 99.*written by ser"):
        checkpoint.load(altered(saved, tmp_path, lambda content: content["ser"].update(format=99)))

    def widen(content: dict) -> None:
        content["hyper_parameters"]["network"]["widths"] = [6]

    with pytest.raises(ValueError, match="cannot be built or filled"):
        checkpoint.load(altered(saved, tmp_path, widen))
