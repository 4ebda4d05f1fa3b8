"""Image networks from torchvision with a dense head in place of their top."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ser.config.quantities import Share, Widths
from ser.models.layers import DenseHead

TOPS = ("fc", "classifier")
"""What torchvision calls the dense layers at the end of a network."""

LEFT_OUT = ("fc.", "classifier.", "AuxLogits.", "aux1.", "aux2.")
"""Weights of layers that a backbone does not have."""

EXPECTED = (
    "expected one such as vgg16, vgg19, resnet50, inception_v3, mobilenet_v2 or efficientnet_b0"
)

log = logging.getLogger(__name__)


class Backbone(nn.Module):
    """Classifies pictures (batch, 3, bins, frames): a torchvision network, its top replaced.

    Args:
        classes: Number of logits.
        bins: Height of the pictures, in pixels.
        channels: Of the pictures, 3.
        name: torchvision's, such as `vgg16`; its last layers must be dense ones.
        pretrained: Whether training starts from torchvision's default weights; the pictures must
            then be scaled as those of ImageNet.
        frozen: Whether training leaves the backbone as it is, statistics included.
        dense: Outputs of the dense layers before the logits.
        dropout: Probability of dropping one of those outputs.

    Raises:
        ValueError: Without such a network, or with pictures that it cannot take.
        ModuleNotFoundError: Without torchvision.
    """

    layout = "planes"

    def __init__(
        self,
        classes: int,
        bins: int,
        channels: int,
        name: str,
        pretrained: bool = False,
        frozen: bool = False,
        dense: Widths = (256, 128),
        dropout: Share = 0.3,
    ) -> None:
        super().__init__()
        self.name = name
        self.pretrained = pretrained
        self.frozen = frozen
        models = _torchvision_models()
        if name not in models.list_models(module=models):
            raise ValueError(f"torchvision has no model.network.name={name!r}: {EXPECTED}")
        least = models.get_model_weights(name).DEFAULT.meta["min_size"][0]
        if channels != 3 or bins < least:
            raise ValueError(
                f"{name} takes pictures of 3 channels and at least {least} bins, but the front end"
                f" gives {channels} and {bins}: expected frontend=mel_image with such a size"
            )
        options = {}
        # Whose pretrained weights were not made for ImageNet's scaling.
        if name in ("googlenet", "inception_v3"):
            options = {"aux_logits": False, "init_weights": True, "transform_input": pretrained}
        self.backbone = models.get_model(name, weights=None, **options)
        self.head = DenseHead(_take_top(self.backbone, name), classes, dense, dropout)
        self.backbone.requires_grad_(not frozen)
        self.to(memory_format=torch.channels_last)
        self.train()  # Lightning starts with the modes that it finds

    def initialize(self, training_features: Callable[[], np.ndarray]) -> None:
        """Load the pretrained weights, where they are asked for; no features are needed.

        Raises:
            ValueError: The weights are neither at hand nor to be had, or do not fit.
        """
        if not self.pretrained:
            return
        weights = _torchvision_models().get_model_weights(self.name).DEFAULT
        file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
        log.info("pretrained weights: %s, from %s", weights, file if file.exists() else weights.url)
        try:
            state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
            kept = {key: value for key, value in state.items() if not key.startswith(LEFT_OUT)}
            self.backbone.load_state_dict(kept)
        except Exception as error:  # a foreign file can make torch raise anything
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise ValueError(
                f"the pretrained weights {weights} could not be loaded from {str(file)!r}, nor from"
                f" {weights.url} where there is no such file ({reason}): put the file into"
                " TORCH_HOME/hub/checkpoints, or set model.network.pretrained=false"
            ) from error

    def train(self, mode: bool = True) -> "Backbone":
        """Set the mode of all but a frozen backbone, which keeps to its statistics."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(self, pictures: Tensor) -> Tensor:
        """Return logits (batch, classes) of pictures (batch, 3, bins, frames)."""
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        return self.head(self.backbone(pictures))


def _torchvision_models() -> object:
    try:
        from torchvision import models
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the image networks need torchvision ({error}): start with"
            " `uv run --extra vision train.py` or `uv run --extra vision eval.py`"
        ) from error
    return models


def _take_top(network: nn.Module, name: str) -> int:
    """Take the dense layers at the end away, and give how many values reached them."""
    for top in TOPS:
        found = getattr(network, top, None)
        layers = list(found) if isinstance(found, nn.Sequential) else [found]
        dense = [layer for layer in layers if not isinstance(layer, nn.Dropout)]
        if dense and isinstance(dense[0], nn.Linear):
            setattr(network, top, nn.Identity())
            return dense[0].in_features
    raise ValueError(
        f"model.network.name={name!r} does not end in dense layers, which a head could replace:"
        f" {EXPECTED}"
    )
