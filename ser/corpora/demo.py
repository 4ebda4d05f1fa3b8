"""The demo corpus: synthetic, speech-like clips under official RAVDESS and TESS names.

It is for trying the program without a download. Every clip is computed, nobody ever spoke it, and
a score on it says nothing about real speech.
"""

import io
import logging
import os
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import soundfile
from filelock import FileLock

from ser.cache.store import cache_directory
from ser.cache.writing import writing_to
from ser.corpora import tess
from ser.corpora.ravdess import RAVDESS
from ser.corpora.synthesis import Take, draw_style, draw_voice, make_generator, speak

log = logging.getLogger(__name__)

VERSION = 1  # part of the folder's name: a change of any sample must raise it
SPEAKERS = 12  # the first of RAVDESS: as many men as women; OAF and YAF are women
RAVDESS_RATE, TESS_RATE = 48000, 24414  # Hz
STRENGTH = {"normal": 0.8, "strong": 1.2}  # of an emotion, by RAVDESS intensity

# What is said, in the phones of the synthesiser.
STATEMENTS = {"kids": "_kIdzAr_tO_kIN_baIDV_dOr_", "dogs": "_dOgzArsI_tIN_baIDV_dOr_"}
CARRIER = "_seIDVw3d"
WORD_TABLE = (
    "back _b{_k_ bar _bAr_ base _beIs_ bath _b{T_ bean _bin_ beg _bE_g_ bite _baI_t_ boat _boU_t_"
)
WORDS = dict(zip(WORD_TABLE.split()[::2], WORD_TABLE.split()[1::2], strict=True))


def list_takes() -> dict[str, Take]:
    """List the corpus: path below its root -> what is to be heard there."""
    takes = {}
    for clip in map(RAVDESS.parse, RAVDESS.official()):
        song = clip.channel == "song"
        asked = clip.modality == "audio" and clip.repetition == 1 and int(clip.speaker) <= SPEAKERS
        if asked and not (song and clip.intensity == "strong"):  # left out for speed
            path, phones = f"Actor_{clip.speaker}/{clip.path.name}", STATEMENTS[clip.statement]
            takes[path] = Take(clip.speaker, clip.emotion, phones, STRENGTH[clip.intensity], song)
    for speaker, (code, emotion), word in product(tess.SPEAKERS, tess.CODES.items(), WORDS):
        folder = "pleasant_surprise" if code == "ps" else code
        path = f"{speaker}_{folder}/{speaker}_{word}_{code}.wav"
        takes[path] = Take(speaker, emotion, CARRIER + WORDS[word])
    return takes


def synthesise(path: str, take: Take, seed: int) -> tuple[np.ndarray, int]:
    """Make a clip, (samples,) of int16, and its rate in Hz: a function of seed and path alone."""
    rng = make_generator(seed, path)
    ravdess = path.startswith("Actor")
    gender = RAVDESS.speakers[take.speaker] if ravdess else "female"
    voice, style = draw_voice(take.speaker, gender, seed), draw_style(take, seed, rng)
    rate = RAVDESS_RATE if ravdess else TESS_RATE
    words = speak(take, voice, style, rate, rng)
    silence = rng.uniform((0.92, 0.83), (1.0, 0.93)) if ravdess else (0.01, 0.02)  # s
    words = np.pad(words, [int(seconds * rate) for seconds in silence])
    words += 10 ** (voice.room / 20) * rng.standard_normal(len(words), np.float32)
    words *= min(1, 0.95 / np.abs(words).max())  # scaled, never clipped
    return np.rint(words * 32767).astype(np.int16), rate


def write(root: Path, seed: int) -> None:
    """Write every clip below `root`."""
    for path, take in list_takes().items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()  # soundfile would not say that the disk is full
        soundfile.write(content, *synthesise(path, take, seed), "PCM_16", format="WAV")
        (root / path).write_bytes(content.getvalue())


def build(directory: str | Path | None = None, seed: int = 0) -> str:
    """Write the corpus once below `directory` (None: the user's cache folder); return its root."""
    # A number, whatever a checkpoint says: the folder below is deleted before it is built.
    root = cache_directory(directory) / f"demo-v{VERSION}-seed{int(seed)}"
    partial = root.with_name(f".{root.name}.partial")  # beside the root: no scan of it looks there
    paths = list_takes()

    def is_whole() -> bool:
        return all((root / path).is_file() for path in paths)

    if is_whole():
        return str(root)
    with writing_to(root.parent):
        root.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{root}.lock"):
            if is_whole():  # another process made it while this one waited
                return str(root)
            log.info("making the synthetic demo corpus, %d clips, in %s", len(paths), root)
            for leftover in (partial, root):
                shutil.rmtree(leftover, ignore_errors=True)
            try:
                write(partial, seed)
                os.replace(partial, root)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return str(root)
