"""Times what a growing manifest costs before and in training, and measures the memory it takes.

    uv run python tests/benchmarks/scale.py sizes=5000,20000,100000

The clips are 0.3 s of noise, by a speaker for every 200 of them; each size has processes of its
own. `scan` reads the manifest, `split` parts the speakers into train, val and test, `cache` decodes
each clip and writes it, `features` computes its MFCCs, `epoch` trains the CNN once on those of the
training speakers, `open` finds the decoded clips of the run before. The memory is the highest so
far, above what the imports take, without pages of files, which the system takes back as it needs
them.
"""

import csv
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
import torch

from ser.audio.window import Window
from ser.data.datamodule import EmotionDataModule
from ser.features.spectral import MFCC
from ser.models.cnn import CNN
from ser.splits.protocols import Holdout

STEPS = ("scan", "split", "cache", "features", "epoch", "open")
RATE = 8000  # Hz
SECONDS = 0.3
LABELS = ("neutral", "happy", "sad", "angry", "fearful", "disgust")
RECIPE = {"bins": 20, "n_fft": 256, "hop_length": 80, "n_mels": 32, "sample_rate": RATE}


def write(root: Path, count: int) -> None:
    """Write `count` clips, a hundred a folder, and their manifest."""
    rng = np.random.default_rng(0)
    with (root / "clips.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "speaker", "gender"])
        for number in range(count):
            path, speaker = f"{number // 100}/{number}.wav", number // 200
            if not number % 100:
                (root / str(number // 100)).mkdir()
            noise = 0.1 * rng.standard_normal(round(SECONDS * RATE), np.float32)
            soundfile.write(root / path, noise, RATE, subtype="PCM_16")
            rows.writerow(
                [path, LABELS[number % 6], f"s{speaker}", ("male", "female")[speaker % 2]]
            )


def memory() -> int:
    """Return the kilobytes of this process that are of no file."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+)", status)[1])


@contextmanager
def watched() -> Iterator[Callable[[], int]]:
    """Give what returns the highest memory so far."""
    peak, ended = [memory()], threading.Event()

    def watch() -> None:
        while not ended.wait(0.01):
            peak[0] = max(peak[0], memory())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: max(peak[0], memory())
    finally:
        ended.set()
        thread.join()


def train(data: EmotionDataModule, frontend: MFCC) -> None:
    """Train one epoch on cached features."""
    network = CNN(classes=len(LABELS), bins=RECIPE["bins"])
    optimizer = torch.optim.Adam(network.parameters())
    for batch in data.train_dataloader():
        logits = network(frontend.finish(batch["analysed"]))
        loss = torch.nn.functional.cross_entropy(logits, batch["label"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def measure(root: str, cache: str) -> None:
    """Print the seconds of each step, and the process's highest memory after it, as JSON."""
    window = Window(SECONDS, {"other": 0.0}, sample_rate=RATE)
    options = {"sample_rate": RATE, "cache": cache, "batch_size": 64}
    frontend = MFCC(**RECIPE)
    known = any(Path(cache).glob("audio-*.json"))
    seconds, kilobytes = {}, {}
    with watched() as peak:
        base, start = peak(), time.perf_counter()

        def end(step: str) -> None:
            nonlocal start
            seconds[step], kilobytes[step] = time.perf_counter() - start, peak() - base
            start = time.perf_counter()

        data = EmotionDataModule(None, window, Holdout(), manifest=f"{root}/clips.csv", **options)
        clips = len(data.scanned.clips)
        end("scan")
        data.splits.table(0)
        end("split")
        data.setup("fit")
        end("open" if known else "cache")
        if not known:
            data.cache_features(frontend, RECIPE | {"_target_": "ser.features.spectral.MFCC"})
            end("features")
            train(data, frontend)
            end("epoch")
    print(json.dumps({"clips": clips, "seconds": seconds, "kilobytes": kilobytes}))


def measure_apart(root: Path, cache: Path) -> dict[str, dict]:
    """Measure in a new process, without what it prints besides."""
    command = [sys.executable, __file__, "measure", str(root), str(cache)]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(shown.splitlines()[-1])


def main() -> None:
    """Measure each size and print what a clip of it takes, beside one of the first size."""
    (sizes,) = (text.removeprefix("sizes=") for text in sys.argv[1:] or ["sizes=5000,20000,100000"])
    first = None
    print("   clips step      seconds  us a clip  ratio   peak MB  B a clip  ratio")
    for size in map(int, sizes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            root, cache = Path(folder, "corpora"), Path(folder, "cache")
            root.mkdir()
            write(root, size)
            found, again = (measure_apart(root, cache) for _ in range(2))
        seconds, kilobytes = found["seconds"], found["kilobytes"]
        seconds["open"], kilobytes["open"] = (
            again[kind]["open"] for kind in ("seconds", "kilobytes")
        )
        clips = found["clips"]
        each = {step: (seconds[step] / clips, kilobytes[step] * 1024 / clips) for step in STEPS}
        first = first or each
        for step in STEPS:
            (time_each, bytes_each), (time_first, bytes_first) = each[step], first[step]
            print(
                f"{clips:8} {step:8} {seconds[step]:8.2f} {1e6 * time_each:10.1f}"
                f" {time_each / time_first:6.2f} {kilobytes[step] / 1024:9.1f} {bytes_each:9.0f}"
                f" {bytes_each / max(bytes_first, 1):6.2f}"
            )
    print("ratio: what a clip takes, over what one of the first size takes (linear: about 1)")


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(*sys.argv[2:])
    else:
        main()
