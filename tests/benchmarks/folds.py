"""Times a cross-validation with its folds side by side beside one fold after the other.

    uv run python tests/benchmarks/folds.py turns=3 protocol=luna5 data.root=/corpora

Each is a process of `train.py fold=all` with the overrides given, in turns, and what counts is the
whole process: one with `jobs=1` and all threads, and one that decides by itself. A run before them,
of one fold after the other with one thread, fills the cache; its predictions are, byte by byte,
those of folds side by side that have a thread each.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

TRAIN = Path(__file__).parents[2] / "train.py"
SETTINGS = {"one after the other": ["jobs=1"], "side by side": []}


def seconds(run: Path, cache: Path, *overrides: str, **variables: str) -> float:
    """Return how long a cross-validation takes."""
    command = [sys.executable, TRAIN, "fold=all", "logger=csv", *sys.argv[2:], *overrides]
    start = time.perf_counter()
    subprocess.run(
        [*command, f"hydra.run.dir={run}", f"cache.dir={cache}"],
        env=os.environ | variables,
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - start


def main() -> None:
    """Print the medians, their ratio, and whether the predictions are the same."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        cache = root / "cache"
        seconds(root / "single", cache, "jobs=1", OMP_NUM_THREADS="1")
        times = {name: [] for name in SETTINGS}
        for turn in range(int(sys.argv[1].removeprefix("turns="))):
            for name, overrides in SETTINGS.items():
                run = root / f"{name} {turn}".replace(" ", "_")
                times[name].append(seconds(run, cache, *overrides))
                print(f"{name:20} {times[name][-1]:8.1f} s", flush=True)
        one, both = (median(times[name]) for name in SETTINGS)
        print(f"side by side / one after the other {both / one:6.2f}   (aim: at most 0.6)")
        files = (root / run / "predictions.csv" for run in ("single", "side_by_side_0"))
        single, together = (path.read_bytes() for path in files)
        print(f"the predictions of folds with one thread: {single == together}")


if __name__ == "__main__":
    main()
