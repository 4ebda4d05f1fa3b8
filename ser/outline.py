"""A recipe's network without memory for its weights: their shapes, and what it computes."""

from collections.abc import Mapping, Sequence

import torch
from hydra.utils import instantiate
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ser.frontend import build_frontend, shape_of

PARAMETERS = 2 * 10**8
"""Weights of a network, at most: 0.8 GB."""

SPECTRUM = 2**24
"""Frames times samples of a frame, at most: eight clips' spectra take 0.3 GB."""

BATCH = 2**28
"""Values of the largest tensor of a batch, at most: 1 GB."""


def build(
    classes: Sequence[str], frontend: Mapping, network: Mapping
) -> tuple[nn.Module, nn.Module]:
    """Build the front end of a recipe, and its network on the meta device.

    Args:
        classes: Their names.
        frontend: Recipe of the front end.
        network: Recipe of the network.

    Raises:
        ValueError: The network has more weights than `PARAMETERS`, or takes other features.
    """
    built = build_frontend(frontend, network)
    with torch.device("meta"):
        outline = instantiate(network, classes=len(classes), **shape_of(built))
    count = sum(value.numel() for value in outline.state_dict().values())
    if count > PARAMETERS:
        raise ValueError(f"model.network has {count} weights: expected at most {PARAMETERS}")
    return built, outline


def check_frames(frontend: Mapping, samples: int) -> None:
    """Refuse a front end whose spectra of one window would take all memory.

    Args:
        frontend: Its recipe.
        samples: Of the window.
    """
    n_fft, hop = frontend.get("n_fft", 2048), frontend.get("hop_length", 480)
    if (samples // hop + 1) * n_fft > SPECTRUM:
        raise ValueError(
            f"frontend.n_fft={n_fft} and frontend.hop_length={hop} make {samples // hop + 1} frames"
            f" of a window of {samples} samples: expected at most {SPECTRUM // n_fft}"
        )


def check_batch(frontend: nn.Module, network: nn.Module, samples: int, clips: int) -> None:
    """Refuse a network that would take all memory to score a batch.

    Args:
        frontend: Of which `check_frames` has been asked.
        network: On the meta device.
        samples: Of a window.
        clips: Of a batch.
    """
    with torch.inference_mode():
        features = frontend(torch.zeros(1, samples))
        with _Sizes() as sizes:
            network.eval()(torch.empty(features.shape, device="meta"))
    if (values := clips * max(samples, features.numel(), sizes.largest)) > BATCH:
        raise ValueError(
            f"a batch of {clips} clips would make a tensor of {values} values: expected at most"
            f" {BATCH}; lower data.batch_size, window.seconds or the network's widths"
        )


class _Sizes(TorchDispatchMode):
    """Keeps the size of the largest tensor that any operation gives."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
        output = function(*args, **(kwargs or {}))
        for each in output if isinstance(output, list | tuple) else (output,):
            if isinstance(each, torch.Tensor):
                self.largest = max(self.largest, each.numel())
        return output
