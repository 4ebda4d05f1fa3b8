"""Times the default front end beside torchaudio's transform of the same spectra, in turns.

    uv run python tests/benchmarks/spectra.py

A clip is three seconds of noise at 48 kHz. Both take two clips at a time, by one thread; medians.
"""

import statistics
import sys
import time

import torch
from torchaudio import transforms

from ser.features.spectral import CACHE_SIZED, MFCC

ROUNDS = 200


def main() -> None:
    """Print what a clip takes in either."""
    rounds = int(sys.argv[1].removeprefix("rounds=")) if sys.argv[1:] else ROUNDS
    torch.set_num_threads(1)
    frontend = MFCC()
    theirs = torch.nn.Sequential(
        transforms.MelSpectrogram(48000, n_fft=2048, hop_length=480, n_mels=128),
        transforms.AmplitudeToDB(),
    )
    waveform = 0.1 * torch.randn(CACHE_SIZED, 144000)
    seconds = {"ser": [], "torchaudio": []}
    with torch.inference_mode():
        for _ in range(rounds):
            for name, compute in (("ser", frontend.analyse), ("torchaudio", theirs)):
                start = time.perf_counter()
                compute(waveform)
                seconds[name].append((time.perf_counter() - start) / CACHE_SIZED)
    own, other = (statistics.median(each) for each in seconds.values())
    print(
        f"ser {1e3 * own:.2f} ms a clip, torchaudio {1e3 * other:.2f} ms: {other / own:.2f} times"
        " as fast"
    )


if __name__ == "__main__":
    main()
