"""Says how much of a model's UAR another channel leaves.

    uv run python tests/benchmarks/channels.py outputs/default/<time> data.root=/corpora

Each folder is a finished run, or a cross-validation whose folds each score the clips that they
test; several give a column each. A channel alters the whole decoded recording, as 16 bit would
store it, before the window is placed and cut; its length stays. A cell has the UAR, its difference
to clean with the 95 % interval of `ser.evaluation.statistics.paired_difference`, and the prediction
given most often with its share.
"""

import sys
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.signal
import soundfile
import soxr
from lightning import Trainer
from rich.console import Console
from rich.progress import track

from ser.audio.clips import Rows
from ser.checkpoints.format import load_checkpoint
from ser.checkpoints.source import open_data
from ser.evaluation.results import RunResult
from ser.evaluation.statistics import paired_difference
from ser.launch.run import quiet_lightning
from ser.training.fit import score

RATE = 48000  # Hz
SETTINGS = ("data.root", "cache.dir")
CODED: dict[tuple, bytes] = {}
"""What was encoded for one folder serves the others: Opus takes a tenth of a second a clip."""


def low_pass(samples: np.ndarray, hertz: int) -> np.ndarray:
    """Take away what lies above: 120 dB an octave, 6 dB at the edge, without delay."""
    filters = scipy.signal.butter(10, hertz, output="sos", fs=RATE)
    return scipy.signal.sosfiltfilt(filters, samples)


def resampled(samples: np.ndarray, hertz: int) -> np.ndarray:
    """Go to another rate and back."""
    return soxr.resample(soxr.resample(samples, RATE, hertz), hertz, RATE)


def mu_law(samples: np.ndarray) -> np.ndarray:
    """Go through a telephone line's coding: 8 bits a sample at 8 kHz."""
    coded = recoded(soxr.resample(samples, RATE, 8000), 8000, format="WAV", subtype="ULAW")
    return soxr.resample(coded, 8000, RATE)


def opus(samples: np.ndarray) -> np.ndarray:
    """Go through Opus at 16 kbit/s, as a messenger sends speech."""
    # libsndfile's level 0 is 256 kbit/s, its level 1 is 6 kbit/s.
    return recoded(samples, RATE, format="OGG", subtype="OPUS", compression_level=0.96)


def recoded(samples: np.ndarray, rate: int, **coding: object) -> np.ndarray:
    """Encode and decode in memory."""
    key = (sha256(samples).digest(), *coding.values())
    if key not in CODED:
        soundfile.write(file := BytesIO(), samples, rate, **coding)
        CODED[key] = file.getvalue()
    return soundfile.read(BytesIO(CODED[key]))[0]


def noisy(samples: np.ndarray) -> np.ndarray:
    """Add white noise 20 dB below the recording's mean power, the same to the same samples."""
    noise = np.random.default_rng(zlib.crc32(samples)).standard_normal(len(samples))
    return samples + noise * np.sqrt(np.mean(samples**2) / 100)


CHANNELS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "clean": lambda samples: samples,
    "20 dB softer": lambda samples: samples / 10,
    "low-pass 8 kHz": partial(low_pass, hertz=8000),
    "low-pass 4 kHz": partial(low_pass, hertz=4000),
    "resampled 16 kHz": partial(resampled, hertz=16000),
    "resampled 8 kHz": partial(resampled, hertz=8000),
    "mu-law 8 kHz": mu_law,
    "Opus 16 kbit/s": opus,
    "noise 20 dB SNR": noisy,
}
"""By name, what becomes of samples in -1..1, (samples,), at `RATE`."""


class Altered:
    """Recordings as a channel leaves them, where a reader has its `Rows`."""

    def __init__(self, recordings: Rows, channel: Callable[[np.ndarray], np.ndarray]) -> None:
        self.recordings, self.channel = recordings, channel
        self.read = lru_cache(1)(self.alter)  # a reader asks twice: where the window is, and for it

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.read(row)

    def alter(self, row: int) -> np.ndarray:
        """Return (samples,) int16 of the recording's own length."""
        recording = self.recordings[row]
        altered = np.zeros(len(recording))
        heard = self.channel(recording / 32768)[: len(recording)]
        altered[: len(heard)] = heard
        return np.clip(np.rint(altered * 32768), -32768, 32767).astype(np.int16)


def predictions_by_channel(folder: Path, given: dict[str, str]) -> dict[str, pd.DataFrame]:
    """Score the test clips of a run, or of its folds, through each channel."""
    RunResult.read(folder)  # refuses what is not finished
    quiet_lightning()
    trainer = Trainer(
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    found = {name: [] for name in CHANNELS}
    for part in sorted(folder.glob("fold_*")) or [folder]:
        loaded = load_checkpoint(part / "checkpoints" / "best.ckpt")
        if (rate := loaded.config["data"]["sample_rate"]) != RATE:
            raise ValueError(f"{part} has data.sample_rate={rate}: expected {RATE}")
        if loaded.split_info.transductive:
            raise ValueError(f"{part} has normalize=speaker, which hears features of clean clips")
        data = open_data(loaded, given.get("data.root"), given.get("cache.dir"), "test")
        recordings = data.reader.waveforms
        for name, channel in track(CHANNELS.items(), str(part), console=Console(stderr=True)):
            data.reader.waveforms = Altered(recordings, channel)
            found[name].append(score(loaded.model, data, trainer, "test"))
    return {name: pd.concat(parts) for name, parts in found.items()}


def cell(altered: pd.DataFrame, clean: pd.DataFrame) -> str:
    """Describe the predictions of altered clips beside those of the same clean ones."""
    columns = altered.label, altered.prediction, clean.prediction, altered.speaker
    uar = paired_difference(*(column.to_numpy(str) for column in columns))["uar"]
    interval = "[{:+.3f}, {:+.3f}]".format(*uar["interval"]) if uar["interval"] else "-"
    shares = altered.prediction.value_counts(normalize=True)
    most = f"{shares.index[0]} {shares.iloc[0]:.0%}"
    return f"{uar['a']:.3f} {uar['difference']:+.3f} {interval:16} {most:14}"


def main(arguments: Sequence[str]) -> None:
    """Print a row a channel and a column a folder.

    Raises:
        ValueError: A folder holds no finished run, or a setting is unknown.
    """
    folders = [Path(text) for text in arguments if "=" not in text]
    given = dict(text.split("=", 1) for text in arguments if "=" in text)
    if not folders or not given.keys() <= set(SETTINGS):
        raise ValueError(f"{arguments}: expected run folders, and {'=, '.join(SETTINGS)}=")
    table = {}
    for number, folder in enumerate(folders, 1):
        found = predictions_by_channel(folder, given)
        table[number] = {name: cell(rows, found["clean"]) for name, rows in found.items()}
        print(f"{number}: {folder}, {len(found['clean'])} clips")
    print(pd.DataFrame(table).to_string(justify="left"))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ValueError as error:
        sys.exit(str(error))
