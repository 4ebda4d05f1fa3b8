"""Spectra of one recording as the model sees it: its windows, and the features of one of them."""

from pathlib import Path

import numpy as np
import torch
from hydra.utils import instantiate
from matplotlib import pyplot as plt
from omegaconf import DictConfig
from rich.console import Console

from ser.audio.decode import decode
from ser.audio.window import Window
from ser.corpora.scan import lead, parse
from ser.features.spectral import MFCC, Chroma, LogMel
from ser.reporting.html import embed_picture, render_page
from ser.reporting.plots import save

FULL_SCALE = 32768
POINTS = 4000
"""Strokes that draw a waveform of any length."""
PITCHES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
MEL_TICKS = (0, 250, 500, 1000, 2000, 4000, 8000, 16000)
"""Hz."""


def find_recording(name: str, data: DictConfig) -> Path:
    """Find a recording by its path, or by its official name below the root of the data.

    Raises:
        ValueError: It is neither.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    module = instantiate(data)
    root = Path(module.manifest or module.root).expanduser()
    if root.exists() and not path.is_dir():
        clips = (clip.path for clip in module.found.clips)
        for file in (*clips, *module.found.unasked):
            if name in (file.stem, file.name):
                return file
    where = f"of {module.place}" if module.manifest else f"below {root}"
    state = "is a folder" if path.is_dir() else f"is neither a file nor a clip {where}"
    raise ValueError(
        f"input={name!r} {state}: expected an audio file, or the name of a clip below data.root,"
        " such as 03-01-05-01-02-01-16; without input the corpora below data.root are described (a"
        " path with commas, brackets, = or letters outside ASCII needs quotes inside quotes:"
        " 'input=\"/données\"')"
    )


def levels(samples: np.ndarray) -> tuple[float, float]:
    """Return RMS and peak of int16 samples in dBFS, not below one step of 16 bits.

    A sine of full scale has an RMS of -3.01 dBFS.
    """
    scaled = samples.astype(np.float32) / FULL_SCALE
    rms = np.sqrt(np.mean(np.square(scaled), dtype=np.float64))
    floor = 1 / FULL_SCALE
    return tuple(float(20 * np.log10(max(value, floor))) for value in (rms, np.abs(scaled).max()))


class Spectra:
    """A recording, its windows, and the features of one window.

    Args:
        path: Any recording.
        window: Cut as for the corpora where the name is one of theirs, else from the onset on.
        mfcc: What computes the MFCCs.
        logmel: What computes the mel spectrogram.
        chroma: What computes the chroma.
        nth: Which window, from 0.

    Attributes:
        samples: The decoded recording, (samples,) int16.
        spans: First sample of each window, and the one after its last that is no padding.
        mfcc: (bins, frames).
        logmel: (bins, frames), dB.
        chroma: (12, frames), 0..1.

    Raises:
        ValueError: The file cannot be read, or has no such window.
    """

    def __init__(
        self, path: Path, window: Window, mfcc: MFCC, logmel: LogMel, chroma: Chroma, nth: int = 0
    ) -> None:
        self.path = path
        self.window = window
        self.nth = nth
        self.samples = decode(path, window.sample_rate)
        self.spans = window.spans(self.samples, *lead(parse(path)))
        if nth not in range(len(self.spans)):
            raise ValueError(
                f"nth={nth!r}: expected a whole number from 0 to {len(self.spans) - 1}, as {path}"
                f" is {len(self.samples) / window.sample_rate:.2f} s long"
            )
        cut = window.cut(self.samples, self.spans[nth])
        waveform = torch.from_numpy(cut).float()[None] / FULL_SCALE  # (1, samples)
        with torch.no_grad():
            self.mfcc, self.logmel, self.chroma = (
                frontend(waveform)[0, 0].numpy() for frontend in (mfcc, logmel, chroma)
            )

    @property
    def seconds(self) -> list[tuple[float, float]]:
        """Where the windows begin and end in the recording, without their padding, in s."""
        rate = self.window.sample_rate
        return [(begin / rate, end / rate) for begin, end in self.spans]

    def describe(self) -> str:
        """Return one line: how long and loud the recording is and what the model hears of it."""
        rms, peak = (round(level, 1) + 0.0 for level in levels(self.samples))  # no -0.0
        begin, end = self.seconds[self.nth]
        padding = self.window.seconds - (end - begin)
        padded = f", padded by {padding:.2f} s" if padding > 0.005 else ""
        number = f" {self.nth} (the last is {len(self.spans) - 1})" if len(self.spans) > 1 else ""
        return (
            f"{self.path.name}: {len(self.samples) / self.window.sample_rate:.2f} s, RMS {rms:.1f}"
            f" dBFS, peak {peak:.1f} dBFS; window{number} {begin:.2f} to {end:.2f} s{padded}"
        )


def write_spectra(spectra: Spectra, folder: Path) -> None:
    """Write recording.png and recording.html, and say what they show."""
    draw(spectra, folder / "recording.png")
    html = render_page(
        "explore.html.j2",
        title=spectra.path.name,
        lines=[spectra.describe(), str(spectra.path)],
        picture=embed_picture(folder / "recording.png"),
    )
    (folder / "recording.html").write_text(html)
    console = Console(markup=False, highlight=False)  # a path may hold brackets
    console.print(spectra.describe(), soft_wrap=True)
    console.print(f"recording.png and recording.html are in {folder}", soft_wrap=True)


def draw(spectra: Spectra, path: Path) -> None:
    """Draw the waveform with its windows, then MFCC, log-mel and chroma of one window."""
    figure, (whole, *planes) = plt.subplots(4, 1, figsize=(10, 11), layout="constrained")
    figure.suptitle(spectra.describe(), fontsize=9, parse_math=False)
    _draw_waveform(spectra, whole)
    mfcc, logmel, chroma = planes
    # The zeroth coefficient, the level, would leave the others one colour.
    limit = float(np.abs(spectra.mfcc[1:]).max(initial=0)) or 1.0
    _draw_plane(spectra, mfcc, spectra.mfcc, "MFCC (dB)", cmap="RdBu_r", vmin=-limit, vmax=limit)
    mfcc.set(ylabel="coefficient")
    _draw_plane(spectra, logmel, spectra.logmel, "log-mel (dB)")
    ticks = [tick for tick in MEL_TICKS if tick <= spectra.window.sample_rate / 2]
    logmel.set_yticks([_mel_band(tick, spectra) for tick in ticks], ticks)
    logmel.set(ylabel="frequency (Hz)", ylim=(-0.5, len(spectra.logmel) - 0.5))
    _draw_plane(spectra, chroma, spectra.chroma, "chroma (of the strongest)", vmin=0, vmax=1)
    chroma.set_yticks(range(len(PITCHES)), PITCHES)
    chroma.set(
        ylabel="pitch class", xlabel="time in the recording (s), zeros after the dashed line"
    )
    save(figure, path)


def _draw_waveform(spectra: Spectra, axes: plt.Axes) -> None:
    scaled = spectra.samples / FULL_SCALE
    edges = np.arange(0, len(scaled), max(1, len(scaled) // POINTS))
    time = edges / spectra.window.sample_rate
    low, high = np.minimum.reduceat(scaled, edges), np.maximum.reduceat(scaled, edges)
    axes.fill_between(time, low, high, color="tab:blue", linewidth=0.5)
    for number, (begin, end) in enumerate(spectra.seconds):
        axes.axvspan(begin, end, color="tab:orange", alpha=0.1, zorder=0)
        axes.axvline(begin, color="tab:orange", linewidth=1)
        if number == spectra.nth:
            label = f"drawn below: {begin:.2f} to {end:.2f} s"
            axes.axvspan(begin, end, fill=False, edgecolor="tab:red", lw=2, label=label)
    axes.legend(loc="upper right")
    axes.set(ylabel="amplitude (of full scale)", xlabel="time (s)")
    axes.set(xlim=(0, len(scaled) / spectra.window.sample_rate))


def _draw_plane(
    spectra: Spectra, axes: plt.Axes, values: np.ndarray, label: str, **options: object
) -> None:
    """Draw (bins, frames) over the seconds of the recording; a line says where padding begins."""
    begin, end = spectra.seconds[spectra.nth]
    frames = values.shape[1]
    half = spectra.window.seconds / max(1, frames - 1) / 2  # frames stand on both ends
    extent = (begin - half, begin + spectra.window.seconds + half, -0.5, len(values) - 0.5)
    options |= {"origin": "lower", "aspect": "auto", "interpolation": "nearest"}
    image = axes.imshow(values, extent=extent, **options)
    if end - begin < spectra.window.seconds:
        axes.axvline(end, color="tab:red", linestyle="--", linewidth=1)
    axes.figure.colorbar(image, ax=axes, label=label, pad=0.01)


def _mel_band(hertz: float, spectra: Spectra) -> float:
    """Return the band, counted from 0, whose centre is at this frequency."""
    mel, top = (np.log1p(f / 700) for f in (hertz, spectra.window.sample_rate / 2))
    return float(mel / top * (len(spectra.logmel) + 1) - 1)
