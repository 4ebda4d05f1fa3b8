from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy

from ser.classifier import EmotionClassifier

CLASSES = ["calm", "happy", "sad"]
RECIPE = {
    "frontend": {"_target_": "ser.frontend.LogMel", "bins": 16, "n_fft": 512},
    "network": {"_target_": "ser.models.cnn.CNN", "widths": [4, 8], "dropout": 0.0},
    "optimizer": {"_target_": "torch.optim.Adam", "lr": 1e-2},
}


def classifier(**options: object) -> EmotionClassifier:
    model = EmotionClassifier(CLASSES, **RECIPE | {"autocast": False} | options)
    model.log = lambda *_, **__: None  # no Trainer is attached
    return model


def batch(clips: int = 6, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "waveform": 0.1 * torch.randn(clips, 9600, generator=generator),
        "label": torch.arange(clips) % 3,
        "row": torch.arange(clips),
    }


def test_the_seed_alone_sets_the_weights():
    first, again, other = classifier(seed=1), classifier(seed=1), classifier(seed=2)
    weights = [model.network.head[-1].weight for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_cached_features_train_like_waveforms():
    model = classifier()
    whole = batch()
    cached = {"features": model.frontend(whole["waveform"]), "label": whole["label"]}
    assert torch.equal(model.training_step(whole, 0), model.training_step(cached, 0))


def test_probabilities_are_those_of_the_clip_alone():
    model = classifier().eval()
    clips = batch(11)
    with torch.no_grad():
        together = model.predict_step(clips, 0)["probabilities"]
        alone = torch.cat([model(clip[None]) for clip in clips["waveform"]])
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.allclose(together.sum(dim=1), torch.ones(11))


def test_balanced_weights_and_smoothing_reach_the_loss():
    weights = torch.tensor([0.5, 1.0, 2.0])
    model = classifier(class_weights="balanced", label_smoothing=0.2)
    data = SimpleNamespace(balanced_weights=lambda: weights)
    model._trainer = SimpleNamespace(datamodule=data)
    model.on_fit_start()
    clips = batch()
    expected = cross_entropy(
        model.network(model.frontend(clips["waveform"])),
        clips["label"],
        weight=weights,
        label_smoothing=0.2,
    )
    assert model.training_step(clips, 0).item() == pytest.approx(expected.item(), rel=1e-5)


def test_only_training_steps_are_autocast():
    model = classifier(autocast=True)
    seen = []
    model.network.head[-1].register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    model.training_step(batch(), 0)
    model.eval().predict_step(batch(), 0)
    assert seen == [torch.bfloat16, torch.float32]


def test_a_vector_front_end_is_refused():
    functionals = {"_target_": "ser.frontend.Functionals"}
    with pytest.raises(ValueError, match=r"Functionals.*expected frontend=mfcc"):
        classifier(frontend=functionals)


def test_an_unknown_weighting_is_refused():
    with pytest.raises(ValueError, match=r"class_weights='inverse'"):
        classifier(class_weights="inverse")
