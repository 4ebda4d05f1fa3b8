"""Times what a user waits for before a command does anything, in processes of their own.

    uv run python tests/benchmarks/startup.py ckpt=<run>/checkpoints/best.ckpt

The share of ser is what `import ser.experiment` takes beyond torch and Lightning, in turns with
them; below it is parted by library. With a checkpoint, `eval.py input=` names the emotion of a
second of noise: from the command to the answer. Medians of processes.
"""

import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median

import numpy as np
import soundfile

ROOT = Path(__file__).parents[2]
TURNS = 3
BEGIN = "import gc; gc.disable(); import os"
"""As train.py and eval.py import: a search for garbage would fall to whichever library is next."""

LEAST = 0.01
"""Seconds of a library that has a line of its own."""


def seconds(*arguments: object) -> float:
    """Return how long a Python process takes."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=ROOT, check=True, capture_output=True
    )
    return time.perf_counter() - start


def by_library() -> Counter:
    """Return the seconds that each library's modules take beyond torch and Lightning."""
    code = f"{BEGIN}, sys, torch, lightning; print('----', file=sys.stderr); import ser.experiment"
    command = [sys.executable, "-X", "importtime", "-c", code]
    shown = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stderr
    found = Counter()
    for line in shown.partition("----")[2].splitlines():
        own, _, name = line.removeprefix("import time:").split("|") if "|" in line else ("", 0, "")
        if own.strip().isdigit():
            found[name.strip().partition(".")[0]] += int(own) / 1e6
    return found


def main() -> None:
    """Print the times, and the share of ser by library."""
    commands = {
        "torch": ["-c", f"{BEGIN}, torch"],
        "torch, lightning": ["-c", f"{BEGIN}, torch, lightning"],
        "ser.experiment": ["-c", f"{BEGIN}, torch, lightning, ser.experiment"],
        "train.py --help": ["train.py", "--help"],
    }
    with tempfile.TemporaryDirectory() as folder:
        if sys.argv[1:]:
            noise = np.random.default_rng(0).normal(0, 0.1, 48000)
            soundfile.write(sound := Path(folder, "noise.wav"), noise, 48000)
            places = [f"input={sound}", f"hydra.run.dir={folder}/run", "overwrite=true"]
            commands["eval.py input="] = ["eval.py", *sys.argv[1:], *places]
        turns = [
            {name: seconds(*command) for name, command in commands.items()} for _ in range(TURNS)
        ]
    times = {name: median(turn[name] for turn in turns) for name in commands}
    for name, took in times.items():
        print(f"{name:17} {took:6.2f} s   {took / times['torch, lightning']:5.2f} of lightning")
    for name in [*times][2:]:
        if name != "train.py --help":
            beyond = median(turn[name] - turn["torch, lightning"] for turn in turns)
            print(f"{name:17} {beyond:6.2f} s   beyond torch and lightning")
    for name, took in by_library().most_common():
        if took > LEAST:
            print(f"    {name:17} {took:6.3f}")


if __name__ == "__main__":
    main()
