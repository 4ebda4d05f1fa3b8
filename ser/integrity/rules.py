"""The rules: what makes a recording differ from that of the official release."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log10
from pathlib import Path
from statistics import median

from ser.corpora.clip import Clip
from ser.corpora.scan import CORPORA
from ser.integrity.measure import Examination

SAME = "the same"
"""What the release has where it is odd itself."""
SEVERITIES = ("note", "remark", "fatal")
"""Of no harm, or the same in the release; usable; not usable."""

MARGIN_S = 0.25
"""What containers and lossy coders may add to a length."""
ZEROS_S = 0.5
"""Digital zeros for longer are told."""
ZEROS_OF_LOSSY = 2
"""In a lossy copy near silence is rounded to zeros too, so more clips hold them."""
CLIPPING = 3
"""Samples at full scale one after another; fewer are a peak."""
FLOATS = ("FLOAT", "DOUBLE")
"""The types of samples that go beyond full scale by more than a lossy coder's error."""
FOREIGN_PEAK = 1.5
"""No copy of a 16-bit recording, resampled or not, goes so far above full scale."""

ENOUGH = 20
"""Clips from which on a speaker's level is judged."""
MARGIN_DB = 6.0
"""What may lie between the speakers measured for a `Release` and the others."""

CONTAINERS = {
    ".aif": {"AIFF"}, ".aiff": {"AIFF"}, ".au": {"AU"}, ".caf": {"CAF"}, ".flac": {"FLAC"},
    ".m4a": {"MP4"}, ".mp3": {"MP3", "MPEG"}, ".mp4": {"MP4"}, ".oga": {"OGG"}, ".ogg": {"OGG"},
    ".opus": {"OGG"}, ".rf64": {"RF64"}, ".w64": {"W64"}, ".wav": {"WAV", "WAVEX", "RF64"},
}  # fmt: skip
"""What libsndfile calls the contents of a file that its suffix fits."""

ADVICE = {
    "missing": "take it from the release; without it folds shrink and figures are of fewer clips",
    "extra": "not of the release: leave it out if you compare with published figures",
    "copy": "training takes the first in sorted order; remove the others",
    "unread": "replace it from the release: training stops at it, or skips it (data.on_error)",
    "silent": "replace it from the release: training would learn a label without a sound",
    "foreign": "replace it from the release: training would take it for the clip of that name",
    "bytes": "re-tagged or edited; replace it from the release to be sure",
    "duplicate": "replace both from the release: one of them holds the other's recording",
    "container": "read by what it is, whatever its name: nothing to do",
    "rate": "resampled when read; a copy once resampled may lack the upper bands",
    "channels": "their mean is read",
    "clipping": "the wave is cut off: take the release's file if this one was amplified",
    "above full scale": "clipped when read: scale it down, or take the release's file",
    "zeros": "trimming or log-mel may tell such clips, and so their speakers, by it",
    "level": "amplified or normalised: level carries emotion, take the release's files",
    "name": "read as the clip it is: nothing to do",
    "unknown name": "left out; give it its official name if it is a clip",
    "not asked for": "left out by data.corpora, data.channels or data.modality",
    # Of a manifest.
    "manifest": "mend it: training stops at the first problem of a manifest",
    "unreadable": "replace it or leave it out: training stops at it, or skips it (data.on_error)",
    "soundless": "replace it or leave it out: training would learn a label without a sound",
    "twice": "keep one of them: in two splits they would end a run",
    "overdriven": "the wave is cut off: record or export it at a lower level",
    "one speaker": "no speaker is left to test it: merge it, drop it, or record another",
    "columns": "they are left unread: nothing to do, unless one is misspelt",
}
"""What to do, by kind of finding."""


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Attributes:
        kind: A key of `ADVICE`.
        severity: One of `SEVERITIES`.
        what: What is there.
        expected: What the release has.
        path: The file, or None where it is none or many.
        clips: The clips, where they are many.
    """

    kind: str
    severity: str
    what: str
    expected: str
    path: Path | None = None
    clips: tuple[str, ...] = ()

    @property
    def advice(self) -> str:
        """What to do."""
        return "nothing to do" if self.expected == SAME else ADVICE[self.kind]


def lacking(official: Mapping[str, Clip], found: Collection[str]) -> Iterator[Finding]:
    """Name the clips that are not there: whole releases and speakers at once, others one by one."""
    by_release = defaultdict(list)
    for clip in official.values():
        by_release[clip.corpus, clip.modality, clip.channel].append(clip)
    for (corpus, modality, channel), clips in by_release.items():
        of_what = f"{corpus} {channel}" + (" (video)" if modality == "video" else "")
        if all(clip.clip not in found for clip in clips):
            yield Finding("missing", "remark", f"all of {of_what}", f"{len(clips)} clips")
            continue
        present = {clip.speaker for clip in clips if clip.clip in found}
        unheard = [clip for clip in clips if clip.speaker not in present]
        if unheard:
            what = f"all {of_what} of speakers {', '.join(sorted({c.speaker for c in unheard}))}"
            yield Finding("missing", "remark", what, f"{len(unheard)} clips")
        for speaker in sorted(present):
            own = [clip for clip in clips if clip.speaker == speaker]
            names = tuple(clip.path.name for clip in own if clip.clip not in found)
            if names:
                what = f"{len(names)} of {of_what} of speaker {speaker}"
                yield Finding("missing", "remark", what, f"{len(own)} clips", clips=names)


def judge(clip: Clip, seen: Examination) -> Iterator[Finding]:
    """Compare one file with the clip that the release has under its name."""

    def finding(kind: str, severity: str, what: str, expected: str) -> Finding:
        return Finding(kind, severity, what, expected, seen.path)

    def oddity(known: bool, kind: str, what: str, expected: str) -> Finding:
        return finding(kind, *(("note", what, SAME) if known else ("remark", what, expected)))

    if seen.error is not None:
        yield finding("unread", "fatal", seen.error.removeprefix(f"{seen.path}: "), "a recording")
        return
    corpus = CORPORA[clip.corpus]
    release, odd = corpus.releases[clip.channel], corpus.oddities
    if seen.rms == 0:
        known = clip.name in odd.silent
        severity, expected = ("note", SAME) if known else ("fatal", "a voice")
        yield finding("silent", severity, "nothing but zeros", expected)
        return
    shortest, longest = corpus.seconds_of(clip)
    if not shortest - MARGIN_S <= seen.seconds <= longest + MARGIN_S or seen.peak > FOREIGN_PEAK:
        lengths = f"{shortest:.2f} s" + (f" to {longest:.2f} s" if longest > shortest else "")
        yield finding("foreign", "fatal", seen.describe(), f"{lengths}, no peak above 1")
        return
    name, suffix = clip.name, seen.path.suffix.lower()
    if seen.container not in CONTAINERS.get(suffix, {seen.container}):
        known = name in odd.aiff and seen.container == "AIFF"
        yield oddity(known, "container", f"{seen.container} under {suffix}", suffix)
    if seen.sample_rate != release.sample_rate:
        known = seen.sample_rate == odd.rates.get(name)
        yield oddity(known, "rate", f"{seen.sample_rate} Hz", f"{release.sample_rate} Hz")
    if seen.channels != 1:
        known = name in odd.stereo and seen.channels == 2
        yield oddity(known, "channels", f"{seen.channels} channels", "1 channel")
    if seen.subtype in FLOATS and seen.peak > 1:
        yield finding("above full scale", "remark", f"peak {seen.peak:.2f}", "at most 1")
    elif seen.longest_clipping >= CLIPPING:
        what = f"{seen.longest_clipping} samples in a row at full scale"
        yield oddity(name in odd.clipped, "clipping", what, f"fewer than {CLIPPING}")
    spelt = corpus.from_name(name).path.name
    if seen.path.stem.upper() not in (spelt.upper(), name.upper()):  # with the folder, or alone
        known = odd.misspelt.get(name) == seen.path.stem
        yield oddity(known, "name", seen.path.name, f"{spelt}{seen.path.suffix}")
    size, digest = odd.files.get(name, (None, seen.file_sha256))
    if (seen.container, seen.subtype) == ("WAV", "PCM_16") and seen.file_sha256 != digest:
        yield finding("bytes", "remark", f"sha256 {seen.file_sha256}", f"{size} bytes, {digest}")


def same_samples(pairs: Sequence[tuple[Clip, Examination]]) -> list[list[Clip]]:
    """Group clips by their samples; silence is in no group."""
    groups = defaultdict(list)
    for clip, seen in pairs:
        if seen.rms > 0:
            groups[seen.samples_sha256].append(clip)
    return list(groups.values())


def alike(pairs: Sequence[tuple[Clip, Examination]]) -> Iterator[Finding]:
    """Find samples that several takes share; silence and the sound of one's own video apart."""
    for clips in same_samples(pairs):
        if len({clip.take for clip in clips}) > 1:
            names = tuple(sorted(clip.name for clip in clips))
            known = all(clip.name in CORPORA[clip.corpus].oddities.alike for clip in clips)
            severity, expected = ("note", SAME) if known else ("fatal", "different recordings")
            what = f"{len(names)} clips of the same samples"
            yield Finding("duplicate", severity, what, expected, clips=names)


def zeros(pairs: Sequence[tuple[Clip, Examination]]) -> Iterator[Finding]:
    """Count the clips of each speaker that hold long runs of digital zeros."""
    held = defaultdict(list)
    for clip, seen in pairs:
        if seen.rms > 0 and seen.longest_zeros_s > ZEROS_S:
            held[clip.corpus, clip.speaker].append(clip.path.name)
    for (corpus, speaker), names in sorted(held.items()):
        usual = CORPORA[corpus].oddities.zero_runs
        total = sum(len(names) for key, names in held.items() if key[0] == corpus)
        known = usual is not None
        severity = "remark" if known and total > ZEROS_OF_LOSSY * usual else "note"
        expected = f"{usual} of all" if known else "not counted"
        what = f"{len(names)} of {corpus} of speaker {speaker}, for more than {ZEROS_S} s"
        yield Finding("zeros", severity, what, expected, clips=tuple(names))


def levels(pairs: Sequence[tuple[Clip, Examination]]) -> list[dict[str, object]]:
    """Return the median peak and RMS (dBFS) of each speaker and channel."""
    groups = defaultdict(list)
    for clip, seen in pairs:
        if seen.error is None and min(seen.peak, seen.rms) > 0:
            groups[clip.corpus, clip.channel, clip.speaker].append(seen)
    table = []
    for (corpus, channel, speaker), group in sorted(groups.items()):
        row = {"corpus": corpus, "channel": channel, "speaker": speaker, "clips": len(group)}
        for key in ("peak", "rms"):
            middle = median(getattr(seen, key) for seen in group)
            row[f"{key}_dbfs"] = round(20 * log10(middle), 2)
        release = CORPORA[corpus].releases.get(channel) if corpus in CORPORA else None
        bounds = release and release.peaks_dbfs
        table.append(row | {"release_peaks_dbfs": bounds})
    return table


def outliers(table: Sequence[Mapping]) -> Iterator[Finding]:
    """Name the speakers who are louder or quieter than any of the release."""
    for row in table:
        if row["release_peaks_dbfs"] is None:
            continue
        low, high = row["release_peaks_dbfs"]
        inside = low - MARGIN_DB <= row["peak_dbfs"] <= high + MARGIN_DB
        if row["clips"] >= ENOUGH and not inside:
            what = (
                f"speaker {row['speaker']}, {row['corpus']} {row['channel']}: median peak"
                f" {row['peak_dbfs']:.1f} dBFS"
            )
            yield Finding("level", "remark", what, f"{low:.1f} to {high:.1f} dBFS")
