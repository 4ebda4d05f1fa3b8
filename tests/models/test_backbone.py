"""Laws of the image networks; MobileNet stands for all where one is enough."""

import sys
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy
from torchvision import models

from ser.models.backbone import Backbone

WEIGHTS = models.MobileNet_V2_Weights.DEFAULT


def mobilenet(**options: object) -> Backbone:
    torch.manual_seed(0)
    return Backbone(8, 32, 3, "mobilenet_v2", dense=(16,), **options)


@pytest.fixture
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of weights that is empty; downloads fail."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    monkeypatch.setattr(type(WEIGHTS), "url", (folder / "none" / name()).as_uri())
    return folder


def name() -> str:
    return WEIGHTS.value.url.rpartition("/")[2]


@pytest.mark.parametrize(
    ("name", "bins", "reaching", "parameters"),
    [
        # torchvision's own counts, less those of their tops.
        ("vgg16", 32, 512 * 7 * 7, 138_357_544 - 123_642_856),
        ("resnet50", 32, 2048, 25_557_032 - 2_049_000),
        ("inception_v3", 75, 2048, 27_161_264 - 2_049_000 - 3_326_696),
        ("mobilenet_v2", 32, 1280, 3_504_872 - 1_281_000),
    ],
)
def test_the_top_is_replaced_by_dense_layers(name, bins, reaching, parameters):
    network = Backbone(8, bins, 3, name, dense=(16, 4))
    dense = (reaching * 16 + 16) + (16 * 4 + 4) + (4 * 8 + 8)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters + dense
    assert network(torch.rand(2, 3, bins, bins)).shape == (2, 8)


def test_a_step_trains_only_the_head_of_a_frozen_network():
    network = mobilenet(frozen=True)  # as it is built, without train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    trained = [each for each in network.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    cross_entropy(network(torch.rand(4, 3, 32, 32)), torch.arange(4)).backward()
    optimizer.step()
    network.train()(torch.rand(4, 3, 32, 32))
    changed = {key for key, value in network.state_dict().items() if not value.equal(before[key])}
    assert changed == {"head.0.weight", "head.0.bias", "head.3.weight", "head.3.bias"}


def test_pretrained_weights_are_read_from_the_cache(torch_home):
    original = models.mobilenet_v2()
    torch.save(original.state_dict(), torch_home / name())
    network = mobilenet(pretrained=True)
    kept = network.backbone.state_dict()
    assert not kept["features.0.0.weight"].equal(original.features[0][0].weight)
    network.initialize(lambda: pytest.fail("the training clips are of no use here"))
    assert all(kept[key].equal(original.state_dict()[key]) for key in kept)


def test_pretrained_weights_are_downloaded_and_their_hash_checked(torch_home):
    torch.save(models.mobilenet_v2().state_dict(), torch_home / "any")
    (torch_home / "none").mkdir()
    (torch_home / "any").rename(torch_home / "none" / name())
    with pytest.raises(ValueError, match=r"could not be loaded .*invalid hash value"):
        mobilenet(pretrained=True).initialize(list)
    assert not (torch_home / name()).exists()


def test_weights_that_cannot_be_had_are_one_line(torch_home):
    with pytest.raises(ValueError, match=r"could not be loaded") as raised:
        mobilenet(pretrained=True).initialize(list)
    line = str(raised.value)
    assert line.count("\n") == 0
    for part in ("MobileNet_V2_Weights.IMAGENET1K_V2", str(torch_home / name()), "file://"):
        assert part in line
    assert line.endswith("hub/checkpoints, or set model.network.pretrained=false")


@pytest.mark.parametrize("content", [b"<html>", b""])
def test_a_damaged_or_foreign_file_is_one_line(torch_home, content):
    (torch_home / name()).write_bytes(content)
    with pytest.raises(ValueError, match=r"could not be loaded from .*pretrained=false"):
        mobilenet(pretrained=True).initialize(list)
    torch.save({"other": torch.zeros(1)}, torch_home / name())
    with pytest.raises(ValueError, match=r"could not be loaded from .*Missing key") as raised:
        mobilenet(pretrained=True).initialize(list)
    assert "\n" not in str(raised.value)


def test_inception_undoes_the_scaling_its_weights_do_not_know():
    assert Backbone(8, 75, 3, "inception_v3", pretrained=True).backbone.transform_input
    assert not Backbone(8, 75, 3, "inception_v3").backbone.transform_input


def test_what_cannot_be_built_is_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"no model.network.name='vgg17': expected one such as"):
        Backbone(8, 224, 3, "vgg17")
    with pytest.raises(ValueError, match=r"'vit_b_16' does not end in dense layers"):
        Backbone(8, 224, 3, "vit_b_16")
    with pytest.raises(ValueError, match=r"takes pictures of 3 channels.* 1 and 40: .*mel_image"):
        Backbone(8, 40, 1, "mobilenet_v2")
    with pytest.raises(ValueError, match=r"at least 75 bins"):
        Backbone(8, 64, 3, "inception_v3")
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ModuleNotFoundError, match=r"uv run --extra vision train.py"):
        mobilenet()
