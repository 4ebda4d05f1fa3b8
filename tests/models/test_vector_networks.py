"""Laws of the networks over one vector of features a clip."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from torch.nn.functional import cross_entropy

from ser.models.conv1d import Conv1D
from ser.models.pca_cnn import PCACNN
from ser.models.recurrent import Recurrent

SMALL = {
    Conv1D: {"widths": (8, 16)},
    PCACNN: {"components": 16, "widths": (8,) * 8, "dense": (16, 16)},
    Recurrent: {"cell": "gru", "width": 32},
}
NETWORKS = pytest.mark.parametrize("kind", SMALL)


def clips(count: int, features: int = 40, seed: int = 0) -> np.ndarray:
    """Draw correlated features of very different size, the last one the same in all clips."""
    generator = np.random.default_rng(seed)
    drawn = generator.normal(size=(count, features)) @ generator.normal(size=(features, features))
    drawn = drawn * np.logspace(-3, 3, features) + 100
    drawn[:, -1] = 7
    return drawn.astype(np.float32)


def fitted(kind: type, training: np.ndarray, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    network = kind(8, training.shape[1], **SMALL[kind] | options)
    network.initialize(lambda: training)
    return network


@NETWORKS
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_one_clip_alone_gives_logits(kind, mode):
    network = getattr(fitted(kind, clips(50)), mode)()
    logits = network(torch.from_numpy(clips(1, seed=1)))
    assert logits.shape == (1, 8)
    assert logits.isfinite().all()


@NETWORKS
def test_units_of_the_features_do_not_matter(kind):
    training, tested = clips(50), clips(5, seed=1)
    first = fitted(kind, training).eval()(torch.from_numpy(tested))
    other = fitted(kind, training * 8 - 32).eval()(torch.from_numpy(tested * 8 - 32))
    torch.testing.assert_close(first, other, rtol=1e-3, atol=1e-3)


@NETWORKS
def test_what_was_learnt_before_the_first_step_is_in_the_state(kind):
    tested = torch.from_numpy(clips(5, seed=1))
    network = fitted(kind, clips(50)).eval()
    again = kind(8, 40, **SMALL[kind]).eval()
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(tested), network(tested))


@NETWORKS
def test_overfits_eight_clips(kind):
    features, labels = clips(20)[:8], torch.arange(8)
    silent = {"dropout": 0.0} | ({"dense_dropout": 0.0} if kind is PCACNN else {})
    network = fitted(kind, clips(20), **silent)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss = cross_entropy(network(torch.from_numpy(features)), labels)
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    assert network.eval()(torch.from_numpy(features)).argmax(1).equal(labels)


def test_the_sources_networks_have_so_many_parameters():
    def count(network: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in network.parameters())

    shallow = (5 * 64 + 64) + (40 * 64 * 8 + 8)
    assert count(Conv1D(8, 40)) == shallow
    # 40 features, pooled by 4 twice, are 2.
    deep = (5 * 64 + 64) + (5 * 64 * 128 + 128) + (5 * 128 * 256 + 256) + (2 * 256 * 8 + 8)
    assert count(Conv1D(8, 40, widths=(64, 128, 256))) == deep
    # 16 components, halved four times, are 1; a normalisation has two parameters a channel.
    convolutions = 3 * 8 + 7 * 3 * 8 * 8 + 8 * 2 * 8
    dense = (8 * 16 + 16) + (16 * 16 + 16) + (16 * 8 + 8)
    assert count(PCACNN(8, 40, **SMALL[PCACNN])) == convolutions + dense
    # Four gates, each with a weight for the scalar, weights for the state, and two biases.
    lstm = 4 * (32 + 32 * 32 + 2 * 32) + (32 * 8 + 8)
    assert count(Recurrent(8, 180, width=32)) == lstm
    assert count(Recurrent(8, 180, "gru", width=32)) == lstm - (32 + 32 * 32 + 2 * 32)


def test_components_are_those_of_scikit_learn():
    training, tested = clips(50), clips(5, seed=1)
    network = fitted(PCACNN, training).eval()
    seen = []
    network.convolutions.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    network(torch.from_numpy(tested))
    scaler = StandardScaler().fit(training.astype(np.float64))
    pca = PCA(16, svd_solver="full").fit(scaler.transform(training))
    expected = pca.transform(scaler.transform(tested))
    np.testing.assert_allclose(seen[0].squeeze(1), expected, atol=1e-3)


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ValueError, match=r"leave nothing of 12 features: expected at least 16"):
        Conv1D(8, 12, widths=(4, 4, 4))
    with pytest.raises(ValueError, match=r"components=66: expected 16, .* to 40"):
        PCACNN(8, 40)
    with pytest.raises(ValueError, match=r"components=16: expected at most 15, .* training clips"):
        fitted(PCACNN, clips(15))
