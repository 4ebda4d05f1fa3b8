"""Times an epoch of `model=probe` on 5,000 clips whose layers are in a cache.

    uv run python tests/benchmarks/probe.py

The sizes are those of Whisper base.en and of a base and a large encoder of torchaudio. The aim is a
second for the first two.
"""

import tempfile
import time
from statistics import median

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from ser.models.probe import Probe

CLIPS, BATCH, EPOCHS = 5000, 64, 4  # the first epoch warms up and does not count
SIZES = {"Whisper base.en": (7, 1024), "base": (13, 1536), "large": (25, 2048)}


def time_epoch(depth: int, features: int) -> float:
    """Seconds of an epoch over a memory map of half precision."""
    generator = np.random.default_rng(0)
    labels = torch.from_numpy(generator.integers(8, size=CLIPS))
    network = Probe(8, depth, features)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    seconds = []
    with tempfile.TemporaryFile() as file:
        cached = np.memmap(file, np.float16, shape=(CLIPS, depth, features))
        cached[:] = generator.standard_normal((depth, features), np.float32)
        for _ in range(EPOCHS):
            start = time.perf_counter()
            for rows in np.array_split(generator.permutation(CLIPS), CLIPS // BATCH):
                optimizer.zero_grad()
                logits = network(torch.from_numpy(cached[rows]).float())
                cross_entropy(logits, labels[rows]).backward()
                optimizer.step()
            seconds.append(time.perf_counter() - start)
    return median(seconds[1:])


if __name__ == "__main__":
    for name, sizes in SIZES.items():
        print(f"{name:16} {time_epoch(*sizes):5.2f} s an epoch")
