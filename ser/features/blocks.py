"""The upper blocks of an encoder, apart from the rest of it: what fine-tuning trains."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Step = Callable[[nn.Module, Tensor, Tensor, Tensor | None], Tensor]
"""Applies a block to states (batch, frames, width), given which frames are a clip's own (batch,
frames) and the bias of their positions."""


class Blocks(nn.Module):
    """Blocks of an encoder: states (batch, frames, width) -> states of a higher layer.

    A frame hears the frames of its own clip alone.

    Args:
        layers: The blocks.
        norm: What follows on them.
        step: How one is applied.
        positions: WavLM's attention of the first block, which has the bias of positions for all;
            None of other encoders.
        pretrained: Returns the state that training starts from.
    """

    def __init__(
        self,
        layers: Sequence[nn.Module],
        norm: nn.Module,
        step: Step,
        positions: nn.Module | None,
        pretrained: Callable[[], Mapping[str, Tensor]],
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = norm
        self.step = step
        self.positions = positions
        self.pretrained = pretrained

    def initialize(self) -> None:
        """Take the weights of the encoder."""
        self.load_state_dict(self.pretrained())

    def forward(self, states: Tensor, own: Tensor, checkpointing: bool = False) -> Tensor:
        """Return the states (batch, frames, width) above.

        Args:
            states: Of the layer below, (batch, frames, width).
            own: Which frames are a clip's and not padding, (batch, frames).
            checkpointing: Whether a training step keeps the states between blocks alone, and
                computes what is in them once more: slower, with less memory.
        """
        bias, (clips, frames) = None, own.shape
        if self.positions is not None:
            bias = self.positions.compute_bias(frames, frames).expand(clips, -1, -1, -1)
        for layer in self.layers:
            if checkpointing and self.training:
                states = checkpoint(self.step, layer, states, own, bias, use_reentrant=False)
            else:
                states = self.step(layer, states, own, bias)
        return self.norm(states)


def among(own: Tensor) -> Tensor:
    """Return which frame hears which, (batch, 1, frames, frames): all own (batch, frames)."""
    return own[:, None, None, :].expand(-1, 1, own.shape[1], -1)
