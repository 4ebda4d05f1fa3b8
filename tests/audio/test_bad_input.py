"""Files damaged at random, through the reader and through `eval.py input=`."""

import io
import resource
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import soundfile

from ser.audio.decode import decode

RATE = 48000
SIZES = (0, 1, 65535, 10**9, 2**31 - 1, 2**31, 2**32 - 8, 2**32 - 1)
MAGIC = (
    b"RIFF\0\0\1\0WAVEfmt \x10\0\0\0", b"RF64\xff\xff\xff\xffWAVEds64\x1c\0\0\0", b".snd\0\0\0\x18",
    b"FORM\0\0\1\0AIFFCOMM\0\0\0\x12", b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0",
    b"caff\0\1\0\0desc", b"fLaC\0\0\0\x22", b"OggS\0\x02", b"ID3\4\0\0\0\0\0\x10\xff\xfb\x90\x64",
    b"\0\0\0\x18ftypmp42", b"NIST_1A\n   1024\n",
)  # fmt: skip
"""How a file of each container begins."""

WRITTEN = {
    "8.wav": ("WAV", "PCM_U8"),
    "16.wav": ("WAV", "PCM_16"),
    "24.wav": ("WAVEX", "PCM_24"),
    "32.wav": ("WAV", "PCM_32"),
    "float.wav": ("WAV", "FLOAT"),
    "double.wav": ("WAV", "DOUBLE"),
    "ulaw.wav": ("WAV", "ULAW"),
    "long.rf64": ("RF64", "PCM_16"),
    "long.w64": ("W64", "PCM_16"),
    "a.aiff": ("AIFF", "PCM_16"),
    "a.caf": ("CAF", "PCM_16"),
    "a.au": ("AU", "PCM_16"),
    "nist.wav": ("NIST", "PCM_16"),
    "16.flac": ("FLAC", "PCM_16"),
    "24.flac": ("FLAC", "PCM_24"),
    "vorbis.ogg": ("OGG", "VORBIS"),
    "a.opus": ("OGG", "OPUS"),
    "a.mp3": ("MP3", "MPEG_LAYER_III"),
}


def sound_files(folder: Path) -> dict[str, bytes]:
    """Write 0.4 s in every container."""
    generator = np.random.default_rng(7)
    samples = 0.3 * np.sin(np.arange(RATE * 2 // 5) / 30) + generator.normal(0, 0.02, RATE * 2 // 5)
    files = {}
    for name, (container, subtype) in WRITTEN.items():
        file = io.BytesIO()
        soundfile.write(file, samples, RATE, format=container, subtype=subtype)
        files[name] = file.getvalue()
    path = folder / "a.mp4"
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            (samples * 32767).astype(np.int16)[None].copy(), format="s16", layout="mono"
        )
        frame.sample_rate = RATE
        container.mux([*stream.encode(frame), *stream.encode(None)])
    files[path.name] = path.read_bytes()
    path.unlink()
    return files


def damage(kind: str, content: bytes, generator: np.random.Generator) -> bytes:
    """Break a file in one of several ways."""
    broken = bytearray(content)
    place = int(generator.integers(len(broken)))
    if kind == "truncated":
        return content[:place]
    if kind == "flipped":
        for at in generator.integers(len(broken), size=generator.integers(1, 6)):
            broken[at] ^= 1 << generator.integers(8)
    elif kind == "header":
        for at in generator.integers(min(128, len(broken)), size=generator.integers(1, 4)):
            broken[at] = generator.integers(256)
    elif kind == "size":
        order = ("little", "big")[generator.integers(2)]
        at = int(generator.integers(min(200, len(broken) - 4)))
        broken[at : at + 4] = SIZES[generator.integers(len(SIZES))].to_bytes(4, order)
    elif kind == "zeroed":
        count = min(int(generator.integers(1, 2000)), len(broken) - place)
        broken[place : place + count] = bytes(count)
    elif kind == "inserted":
        broken[place:place] = generator.bytes(int(generator.integers(1, 300)))
    elif kind == "scattered":
        for at in generator.integers(len(broken), size=generator.integers(5, 60)):
            broken[at] = generator.integers(256)
    elif kind == "magic":
        magic = MAGIC[generator.integers(len(MAGIC))]
        return magic + generator.bytes(int(generator.integers(5000)))
    elif kind == "text":
        return b"path,label\n" * int(generator.integers(0, 100))
    return bytes(broken)


KINDS = (
    "sound", "truncated", "truncated", "flipped", "header", "size", "zeroed", "inserted",
    "scattered", "magic", "text",
)  # fmt: skip


def write_files(folder: Path, count: int, seed: int = 0) -> pd.DataFrame:
    """Write files, sound ones among them: `path` and `kind`."""
    whole, rows = sound_files(folder), []
    for number in range(count):
        generator = np.random.default_rng([seed, number])
        kind, name = KINDS[number % len(KINDS)], list(whole)[generator.integers(len(whole))]
        path = folder / f"{number:05}_{kind}_{name}"
        path.write_bytes(damage(kind, whole[name], generator))
        rows.append({"path": str(path), "kind": kind})
    return pd.DataFrame(rows)


def read_all(files: pd.DataFrame) -> pd.Series:
    """Give the error of each file, None where it was read."""
    errors = []
    for path in files.path:
        begin, error = time.monotonic(), None
        try:
            samples = decode(path, RATE)
        except ValueError as refusal:
            error = str(refusal)
            assert error.startswith(f"{path}: ")
            assert "\n" not in error
        else:
            assert samples.dtype == np.int16
            # A rate of 4 kHz, the lowest, makes 0.4 s of 48 kHz 12 times as long.
            assert 0 < len(samples) <= 12 * 2 * RATE
        assert time.monotonic() - begin < 10, path
        errors.append(error)
    return pd.Series(errors, files.index, object)


def check(files: pd.DataFrame, errors: pd.Series) -> None:
    refused = errors.notna()
    assert not refused[files.kind == "sound"].any()
    for kind in ("truncated", "text"):
        # Nothing in an MP3 says how long it is.
        taken = files.path[(files.kind == kind) & ~refused & ~files.path.str.endswith(".mp3")]
        assert taken.empty, taken.to_list()


@pytest.mark.slow
def test_a_thousand_malformed_files_are_a_row_each(
    svm_run: Path, launch: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture
):
    folder = tmp_path / "malformed"
    folder.mkdir()
    files = write_files(folder, 1210)
    assert (files.kind != "sound").sum() >= 1000
    errors = read_all(files)
    check(files, errors)
    assert 200 < errors.isna().sum() < 900

    ckpt = f"ckpt={svm_run / 'checkpoints' / 'best.ckpt'}"
    capfd.readouterr()
    with pytest.raises(SystemExit) as end:
        launch("eval", ckpt, f"input={folder}", folder="scored", logger="none")
    assert end.value.code == 1
    assert "Traceback" not in capfd.readouterr().err
    rows = pd.read_csv(tmp_path / "scored" / "predictions.csv").set_index("path")
    assert sorted(rows.index) == sorted(files.path)
    found = rows.error[files.path].to_numpy()
    assert np.array_equal(pd.isna(found), errors.isna())
    assert (found == errors)[errors.notna()].all()
    probabilities = rows.loc[files.path[errors.isna()]].filter(like="p_").to_numpy()
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert rows.prediction[files.path].isna().to_numpy().tolist() == errors.notna().to_list()


@pytest.mark.slow
def test_ten_thousand_more_are_read_or_refused_in_bounded_memory(tmp_path: Path):
    files = write_files(tmp_path, 10_000, seed=1)
    read_all(files.head(200))  # the libraries are loaded by then
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    check(files, read_all(files))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
