"""Times two trainings at once beside the same two one after the other.

    uv run python tests/benchmarks/side_by_side.py trainer.max_epochs=20

Each is a process of `train.py data=demo` with the overrides given; what counts is its fitting. With
threads that spin while they wait two runs take turns at the processors, so that both take longer
than one after the other.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

TRAIN = Path(__file__).parents[2] / "train.py"
SETTINGS = {
    "as it is": {},
    "spinning threads": {"OMP_WAIT_POLICY": "ACTIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}


def start(run: Path, cache: Path, variables: dict[str, str]) -> subprocess.Popen:
    """Start a training."""
    command = [sys.executable, TRAIN, "data=demo", "logger=none", *sys.argv[1:]]
    places = [f"hydra.run.dir={run}", f"cache.dir={cache}"]
    others = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    return subprocess.Popen(
        [*command, *places],
        env=others | variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def seconds(run: Path) -> float:
    """Read how long the model was fitted."""
    return json.loads((run / "metrics.json").read_text())["seconds"]["fit"]


def main() -> None:
    """Measure each setting and print the ratio; the first training fills the cache."""
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder, "cache")
        start(Path(folder, "first"), cache, {}).wait()
        for name, variables in SETTINGS.items():
            runs = [Path(folder, name.replace(" ", "_"), number) for number in "0123"]
            for run in runs[:2]:
                start(run, cache, variables).wait()
            for process in [start(run, cache, variables) for run in runs[2:]]:
                process.wait()
            apart, together = sum(map(seconds, runs[:2])), max(map(seconds, runs[2:]))
            print(f"{name:17} two at once / one after the other {together / apart:6.2f}")
    print("0.50: twice as fast; 1.00: nothing is gained")


if __name__ == "__main__":
    main()
