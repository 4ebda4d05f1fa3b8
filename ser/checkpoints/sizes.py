"""Size limits: a recipe's network on the meta device, its window, and clips in one batch."""

from collections.abc import Mapping, Sequence

import torch
from hydra.utils import instantiate
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ser.features.frontend import sizes_of

LONGEST = 2**26
"""Samples of a window; at 48 kHz that is 23 minutes."""

SPECTRUM = 2**24
"""Frames times samples, or bins, of a frame, at most: eight clips' spectra take 0.3 GB."""

BATCH = 2**28
"""Values of the largest tensor of a batch, at most: 1 GB."""


def build_network(network: Mapping, classes: Sequence[str], frontend: nn.Module) -> nn.Module:
    """Build the network of a recipe on the meta device, which takes no memory for its weights.

    Args:
        network: The recipe.
        classes: Their names.
        frontend: What computes its features.
    """
    with torch.device("meta"):
        return instantiate(network, classes=len(classes), **sizes_of(frontend))


def check_window(frontend: Mapping, samples: int) -> None:
    """Refuse a window that would take all memory, or whose spectra would.

    Args:
        frontend: Recipe of the front end.
        samples: Of the window.

    Raises:
        ValueError: It is empty, or longer than `LONGEST` or `SPECTRUM` admit.
    """
    if not 0 < samples <= LONGEST:
        raise ValueError(f"window.seconds makes {samples} samples: expected 1 to {LONGEST}")
    hop = frontend.get("hop_length", 480)  # an encoder's is longer
    bins = max(frontend.get(key, 0) for key in ("bins", "n_fft", "n_mels", "size"))
    if (samples // hop + 1) * max(bins, 2048) > SPECTRUM:
        shown = f"frontend.hop_length={hop}" if "hop_length" in frontend else "window.seconds"
        raise ValueError(
            f"{shown} makes {samples // hop + 1} frames of a window of {samples} samples: expected"
            f" at most {SPECTRUM // max(bins, 2048)}"
        )


def clips_at_once(samples: int, frontend: nn.Module, network: nn.Module | None) -> int:
    """Count the clips that can be scored in one batch.

    Args:
        samples: Of a window, of which `check_window` has been asked.
        frontend: Of the model.
        network: On the meta device; None of a classical model.

    Raises:
        ValueError: There is no memory for one.
    """
    with torch.inference_mode():
        features = frontend.example(samples)
        largest = max(samples, features.numel())
        if network is not None:
            with _Sizes() as sizes:
                network.eval()(torch.empty(features.shape, device="meta"))
            largest = max(largest, sizes.largest)
    if largest > BATCH:
        raise ValueError(
            f"model.network makes a tensor of {largest} values of one clip: expected at most"
            f" {BATCH}"
        )
    return BATCH // largest


class _Sizes(TorchDispatchMode):
    """Keeps the size of the largest tensor that any operation gives."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
        output = function(*args, **(kwargs or {}))
        for each in output if isinstance(output, list | tuple) else (output,):
            if isinstance(each, torch.Tensor):
                self.largest = max(self.largest, each.numel())
        return output
