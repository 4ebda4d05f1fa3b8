"""Laws of the networks over the layers and the frames of an encoder."""

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn.functional import cross_entropy, pad

from ser.features.encoders import Blocks
from ser.models.frames import FrameClassifier
from ser.models.probe import Probe


def layers(count: int) -> np.ndarray:
    """Draw the features (clips, 3, 8) of three layers, of very different size."""
    generator = np.random.default_rng(0)
    scale = np.logspace(-2, 2, 24).reshape(3, 8)
    return (generator.normal(size=(count, 3, 8)) * scale + 5).astype(np.float32)


def frames(*lengths: int) -> torch.Tensor:
    """Draw clips (clips, 8, 20) of so many frames, then zeros."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(len(lengths), 8, 20, generator=generator)
    return drawn * (torch.arange(20) < torch.tensor(lengths)[:, None])[:, None]


def test_a_probe_is_a_weighted_sum_of_standardised_layers():
    drawn = layers(50)
    network = Probe(4, 3, 8, dropout=0.0)
    network.initialize(lambda: drawn)
    nn.init.eye_(network.head[1][0].weight)
    nn.init.zeros_(network.head[1][0].bias)
    with torch.no_grad():
        network.shares.copy_(torch.tensor([0.0, 0.5, 0.3]).log())
    by_layer = [StandardScaler().fit_transform(drawn[:, layer]) for layer in range(3)]
    expected = (0.5 * by_layer[1] + 0.3 * by_layer[2]) / 0.8
    found = network(torch.from_numpy(drawn)).detach().numpy()
    np.testing.assert_allclose(found, expected[:, :4], atol=1e-4)


def test_a_probe_finds_the_layer_that_tells_the_classes_apart():
    torch.manual_seed(0)
    labels = torch.arange(64) % 4
    drawn = torch.randn(64, 3, 8)
    drawn[:, 1] += 2 * torch.eye(8)[labels]
    network = Probe(4, 3, 8, dropout=0.0)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        cross_entropy(network(drawn), labels).backward()
        optimizer.step()
    assert network.shares.argmax() == 1


def test_frames_that_are_weighed_alike_are_described_by_mean_and_deviation():
    network = FrameClassifier(16, 8, upper=None).eval()
    nn.init.zeros_(network.weigh[2].weight)
    nn.init.eye_(network.head[1][0].weight)
    nn.init.zeros_(network.head[1][0].bias)
    clip = frames(7)
    own = nn.functional.layer_norm(clip[0, :, :7].T, (8,))
    expected = torch.cat([own.mean(0), own.std(0, correction=0)])
    torch.testing.assert_close(network(clip)[0], expected, atol=1e-5, rtol=1e-5)


def upper(count: int) -> Blocks:
    """Return blocks of attention and a layer of others, as encoders have them."""
    torch.manual_seed(1)
    made = [nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(count)]
    state = Blocks(made, nn.LayerNorm(8), hear, None, dict).state_dict()
    return Blocks(made, nn.LayerNorm(8), hear, None, lambda: state)


def hear(layer: nn.Module, states: torch.Tensor, own: torch.Tensor, _: None) -> torch.Tensor:
    return layer(states, src_key_padding_mask=~own)


@pytest.mark.parametrize("blocks", [0, 2])
def test_neither_padding_nor_company_changes_a_clip(blocks: int):
    network = FrameClassifier(4, 8, upper, blocks).eval()
    together = network(frames(20, 5, 1))
    for row, length in enumerate((20, 5, 1)):
        alone = network(frames(20, 5, 1)[row : row + 1, :, :length])
        torch.testing.assert_close(together[row : row + 1], alone)
    torch.testing.assert_close(network(pad(frames(20, 5, 1), (0, 9))), together)


def test_checkpointing_changes_no_gradient():
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        network = FrameClassifier(4, 8, upper, 2, checkpointing=checkpointing)
        torch.manual_seed(2)  # of the dropout
        cross_entropy(network(frames(20, 5)), torch.tensor([0, 3])).backward()
        found.append([each.grad for each in network.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_blocks_have_a_learning_rate_of_their_own():
    network = FrameClassifier(4, 8, upper, 2, blocks_lr=1e-5)
    network.blocks.layers[0].requires_grad_(False)
    optimizer = torch.optim.Adam(network.groups(), lr=1e-3)
    head, blocks = optimizer.param_groups
    assert (head["lr"], blocks["lr"]) == (1e-3, 1e-5)
    assert {*blocks["params"]} == {
        *network.blocks.layers[1].parameters(),
        *network.blocks.norm.parameters(),
    }
    assert len(head["params"]) == len(list(FrameClassifier(4, 8, upper).parameters()))
