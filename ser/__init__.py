"""Speech emotion recognition experiments whose numbers can be believed.

`load` opens a trained model; everything else is reached through train.py, eval.py and the commands.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from ser.inference.model import Model

__all__ = ["load"]

# Where ONNX Runtime is installed torchmetrics imports it, and it then reports to its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def load(
    path: str | Path,
    abstain: float | None = None,
    device: "str | torch.device" = "cpu",
    compiled: bool = False,
    encoder: str | None = None,
) -> "Model":
    """Open a checkpoint to predict with: `load("best.ckpt").predict("clip.wav").label`.

    Args:
        path: Of the checkpoint.
        abstain: Share of wrong answers to accept: less sure ones are `unsure`. None always answers.
        device: Where the model computes.
        compiled: Whether trees, boosters and nearest neighbours of others are loaded, which
            compiled code reads unchecked.
        encoder: File or folder of the weights of its encoder, if they have moved.

    Raises:
        ValueError: It is no checkpoint of this program, names code that may not run, or cannot
            abstain.
    """
    # Imported here, as commands that need no model come through this file too.
    from ser.checkpoints.format import load_checkpoint
    from ser.inference.model import Model

    return Model(load_checkpoint(path, compiled, encoder=encoder), abstain, device)
