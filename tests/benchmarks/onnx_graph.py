"""Times an exported graph beside the model that it was made of, and compares their answers.

    uv run --extra onnx python tests/benchmarks/onnx_graph.py ckpt=<run>/checkpoints/best.ckpt

Both are in one process, with one thread, and score the same recordings of noise: what torch takes
is what `ser.load` does with samples in memory. A ratio below 1 says that the graph is faster.
The difference is the largest of a probability.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from ser.checkpoints.format import load_checkpoint
from ser.inference import graph
from ser.inference.onnx import BATCH, SECONDS, Trial, as_batch

REPEATS = 15


def seconds(function: Callable[[], object]) -> float:
    """Return the median time of calls."""
    found = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        function()
        found.append(time.perf_counter() - begin)
    return float(np.median(found))


def main() -> None:
    """Print a line a length and batch."""
    (path,) = (word.removeprefix("ckpt=") for word in sys.argv[1:])
    loaded = load_checkpoint(path, compiled=True)
    rate = loaded.config["data"]["sample_rate"]
    rng = np.random.default_rng(0)
    noise = [rng.normal(0, 3000, 3 * rate).astype(np.int16) for _ in range(BATCH)]
    trial = Trial(loaded, noise)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.onnx")
        onnx.save(graph.build(loaded.model, trial.model.window), file)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        print(f"{file.stat().st_size / 1e6:.2f} MB beside {Path(path).stat().st_size / 1e6:.2f}")
    torch.set_num_threads(1)
    for length, pieces, answers in zip(SECONDS, trial.batches, trial.answers, strict=True):
        for batch in (1, BATCH):
            waveform = as_batch(pieces[:batch])
            (found,) = session.run(None, {"waveform": waveform})
            apart = float(np.abs(found - answers[:batch]).max())
            graphs = seconds(lambda waveform=waveform: session.run(None, {"waveform": waveform}))
            models = seconds(lambda pieces=pieces[:batch]: trial.score(pieces))
            print(
                f"{length:4} s, batch {batch}: graph / torch {graphs / models:5.2f}"
                f"   largest difference {apart:.1e}"
            )


if __name__ == "__main__":
    main()
