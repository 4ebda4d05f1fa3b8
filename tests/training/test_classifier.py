from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy

from ser.training.classifier import EmotionClassifier

CLASSES = ["calm", "happy", "sad"]
RECIPE = {
    "frontend": {"_target_": "ser.features.spectral.LogMel", "bins": 16, "n_fft": 512},
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


VECTOR = {
    "_target_": "ser.features.functionals.Functionals",
    "parts": ["mfcc"],
    "statistics": ["mean"],
}
CONV1D = {"_target_": "ser.models.conv1d.Conv1D"}


def test_a_front_end_of_the_other_kind_is_refused():
    with pytest.raises(ValueError, match=r"Functionals gives .*CNN takes.*expected frontend=mfcc"):
        classifier(frontend=VECTOR)
    with pytest.raises(ValueError, match=r"LogMel gives .* expected frontend=functionals"):
        classifier(network=CONV1D)
    # What a model sets of its own front end stays when another one is chosen.
    other = {"_target_": "ser.features.spectral.LogMel", "parts": ["mfcc"]}
    with pytest.raises(ValueError, match=r"parts=\['mfcc'\], which .*LogMel does not take"):
        classifier(frontend=other, network=CONV1D)


def test_an_augmentation_of_planes_is_refused_for_vectors():
    augment = {"_target_": "ser.features.augment.SpecAugment"}
    with pytest.raises(ValueError, match=r"SpecAugment alters .*Functionals .*augment=none"):
        classifier(frontend=VECTOR, network=CONV1D, augment=augment)
    classifier(frontend=VECTOR, network=CONV1D, augment={"_target_": "torch.nn.Identity"})
    classifier(augment=augment)


def test_a_network_learns_from_the_training_clips_once():
    features = torch.randn(9, 40).numpy() * 3 + 5
    data = SimpleNamespace(training_features=lambda frontend: (features, None))
    model = classifier(frontend=VECTOR, network=CONV1D)
    model._trainer = SimpleNamespace(datamodule=data)
    model.resumed = model.hparams
    model.on_fit_start()
    assert not model.network.standardize.mean.any()  # the checkpoint has it
    model.resumed = None
    model.on_fit_start()
    assert model.network.standardize.mean.numpy() == pytest.approx(features.mean(axis=0), rel=1e-5)
    probabilities = model.predict_step(batch(), 0)["probabilities"]
    assert probabilities.shape == (6, 3)


def test_frozen_parameters_are_not_given_to_the_optimiser():
    model = classifier()
    model.network.stem.requires_grad_(False)
    (optimizer,), _ = model.configure_optimizers()
    given = optimizer.param_groups[0]["params"]
    assert {id(each) for each in model.network.parameters()} - {id(each) for each in given} == {
        id(each) for each in model.network.stem.parameters()
    }


def test_an_unknown_weighting_is_refused():
    with pytest.raises(ValueError, match=r"class_weights='inverse'"):
        classifier(class_weights="inverse")
