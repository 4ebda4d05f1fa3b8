"""How loud each speaker is, on disk and in the official releases."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import log10
from pathlib import Path
from statistics import median

from matplotlib import pyplot as plt

from ser.corpora import releases
from ser.corpora.clip import Clip
from ser.integrity.measure import Examination
from ser.integrity.rules import Finding
from ser.reporting.plots import DPI

ENOUGH = 20
"""Clips from which on a speaker's level is judged."""
MARGIN_DB = 6.0
"""What may lie between the speakers measured for `releases` and the others."""


def levels(pairs: Sequence[tuple[Clip, Examination]]) -> list[dict[str, object]]:
    """Give the median peak and RMS (dBFS) of each speaker and channel."""
    groups = defaultdict(list)
    for clip, seen in pairs:
        if seen.error is None and min(seen.peak, seen.rms) > 0:
            groups[clip.corpus, clip.channel, clip.speaker].append((clip, seen))
    table = []
    for (corpus, channel, speaker), group in sorted(groups.items()):
        bounds = releases.release_of(group[0][0]).peaks_dbfs
        peak, rms = (
            20 * log10(median(getattr(seen, key) for _, seen in group)) for key in ("peak", "rms")
        )
        table.append(
            {
                "corpus": corpus,
                "channel": channel,
                "speaker": speaker,
                "clips": len(group),
                "peak_dbfs": round(peak, 2),
                "rms_dbfs": round(rms, 2),
                "release_peaks_dbfs": bounds,
            }
        )
    return table


def outliers(table: Sequence[Mapping]) -> Iterator[Finding]:
    """Name the speakers who are louder or quieter than any of the release."""
    for row in table:
        low, high = row["release_peaks_dbfs"]
        inside = low - MARGIN_DB <= row["peak_dbfs"] <= high + MARGIN_DB
        if row["clips"] >= ENOUGH and not inside:
            what = (
                f"speaker {row['speaker']}, {row['corpus']} {row['channel']}: median peak"
                f" {row['peak_dbfs']:.1f} dBFS"
            )
            yield Finding("level", "remark", what, f"{low:.1f} to {high:.1f} dBFS")


def draw(table: Sequence[Mapping], path: Path) -> None:
    """Draw the median peak of each speaker over the range that the release's speakers have."""
    kinds = sorted({(row["corpus"], row["channel"]) for row in table})
    figure, panels = plt.subplots(
        1, len(kinds), figsize=(2.5 + 4 * len(kinds), 3.5), layout="constrained", squeeze=False
    )
    for axes, kind in zip(panels[0], kinds, strict=True):
        rows = [row for row in table if (row["corpus"], row["channel"]) == kind]
        axes.axhspan(
            *rows[0]["release_peaks_dbfs"], color="tab:green", alpha=0.2, label="peaks, release"
        )
        for key, mark in (("peak_dbfs", "o"), ("rms_dbfs", "_")):
            axes.plot([row[key] for row in rows], mark, label=key.split("_")[0])
        axes.set_xticks(range(len(rows)), [row["speaker"] for row in rows], fontsize=7)
        axes.set(title=" ".join(kind), xlabel="speaker", ylabel="median level (dBFS)")
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=DPI)
    plt.close(figure)
