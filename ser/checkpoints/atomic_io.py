"""Atomic writes of checkpoint files."""

import io
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from ser.checkpoints import ownership


class WholeFiles(TorchCheckpointIO):
    """Writes under a temporary name in the same folder, and renames what is whole.

    Lightning's own goes through the system's temporary folder, from which a file is copied where
    it lies on another disk: a kill leaves half of it.
    """

    def save_checkpoint(
        self, checkpoint: Mapping, path: str | Path, storage_options: object = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            OSError: There is no room, or no right, to write it; the file of that name is as it was.
        """
        path = Path(path)
        partial = path.with_name(f"{path.name}.tmp")
        # Serialised in memory: torch hides the reason why a file cannot be written.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.write(buffer.getbuffer())
                file.flush()
                os.fsync(file.fileno())  # the new name must not reach the disk before its bytes
            ownership.remember(path, buffer.getbuffer())
            os.replace(partial, path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            last = path.with_name("last.ckpt")
            way = f"make room and go on with resume={last}" if last.exists() else "make room"
            raise OSError(
                f"{path} ({len(buffer.getbuffer()) / 1e6:.1f} MB) could not be written"
                f" ({error.strerror}): {way}"
            ) from error
