"""Laws of the networks."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from ser.models.cnn import CNN


@pytest.mark.parametrize("bins", [40, 128])
@pytest.mark.parametrize("frames", [1, 57, 301])
@pytest.mark.parametrize("channels", [1, 3])
def test_one_clip_of_any_length_gives_logits(bins, frames, channels):
    torch.manual_seed(0)
    network = CNN(8, bins, channels).eval()
    logits = network(torch.randn(1, channels, bins, frames))
    assert logits.shape == (1, 8)
    assert logits.isfinite().all()


def test_logits_do_not_depend_on_company():
    torch.manual_seed(0)
    network = CNN(8, 40).eval()
    features = 20 * torch.randn(5, 1, 40, 301)
    together = network(features)
    alone = torch.cat([network(clip[None]) for clip in features])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_affine_change_of_the_input_is_standardised_away():
    torch.manual_seed(0)
    network = CNN(8, 40, dropout=0.0)
    features = torch.randn(4, 1, 40, 101)
    scales = torch.rand(1, 1, 40, 1) * 50 + 1
    torch.testing.assert_close(
        network(features), network(features * scales - 300), rtol=0.02, atol=0.02
    )


def test_running_statistics_are_those_of_the_bins():
    torch.manual_seed(0)
    network = CNN(8, 40)
    features = torch.randn(16, 1, 40, 50) + torch.arange(40.0).view(1, 1, 40, 1)
    for _ in range(100):
        network(features)
    mean = features.mean((0, 1, 3))
    torch.testing.assert_close(network.standardize.running_mean, mean, rtol=0, atol=0.01)


def test_widths_set_the_number_of_parameters():
    network = CNN(8, 40, widths=(4, 6))
    convolutions = 25 * 4 + 9 * 4 * 4 + 9 * 4 * 6
    normalisations = 2 * (4 + 4 + 6)  # that of the input has no parameters
    attention_and_head = 6 + 1 + 12 * 8 + 8
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == convolutions + normalisations + attention_and_head


def test_overfits_eight_clips():
    torch.manual_seed(0)
    network = CNN(8, 40, dropout=0.0)
    features, labels = torch.randn(8, 1, 40, 301), torch.arange(8)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(40):
        optimizer.zero_grad()
        loss = cross_entropy(network(features), labels)
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    assert network.eval()(features).argmax(1).equal(labels)
