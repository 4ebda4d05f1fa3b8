"""Audio files of any container as blocks of frames, refused where they are not whole."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

import numpy as np
import soundfile

BLOCK = 2**20
"""Frames read at once: a clip is one block, an hour needs no more memory than that."""

LEAST = 2**16
"""Frames read at once where a header promises fewer: what is not filled is zeroed, in vain."""

MP4_SUFFIXES = frozenset((".m4a", ".mp4"))
"""What PyAV reads; libsndfile reads the others."""

CONTAINERS = (
    "WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3", "NIST",
)  # fmt: skip
"""Those of libsndfile's that are read. In all but MP3 a file that was cut off is found out."""

# libsndfile cuts a promised length to what is there, and says so in its log alone.
_CUT_OFF = re.compile(r"^\s*(?:data|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)", re.M)
_NIST_FRAMES = re.compile(rb"^NIST_1A\s.*^sample_count -i (\d+)", re.M | re.S)
_OGG_PAGE = 27 + 255 + 255 * 255
"""The longest page of an Ogg file, in bytes."""


class _Stream(soundfile.SoundFile):
    """A file read from its front without the seek after each block, which MP3 is not exact in."""

    def seekable(self) -> bool:
        return False


def blocks(path: Path) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the rate in Hz and (frames, channels) float32, block by block.

    Of a video the first audio stream is read, with PyAV. An MP3 is read as far as libsndfile
    decodes it: its header need not say how many frames there are.

    Raises:
        ValueError: It is no regular file, no audio, or holds less than its header promises.
    """
    try:
        if not path.is_file():  # opening a pipe would wait for its writer
            raise ValueError("is no regular file")
        with path.open("rb", buffering=0) as file:
            yield from _read_mp4(file) if path.suffix.lower() in MP4_SUFFIXES else _read(file)
    except OSError as error:
        raise ValueError(f"cannot be opened ({error.strerror})") from error


def holds_audio(path: Path) -> bool:
    """Whether libsndfile knows the container by its first bytes."""
    try:
        if not path.is_file():
            return False
        with path.open("rb", buffering=0) as file, _Stream(file.fileno(), closefd=False) as stream:
            return stream.frames > 0 and stream.format in CONTAINERS
    except (soundfile.LibsndfileError, OSError):
        return False


def _read(file: BinaryIO) -> Iterator[tuple[int, np.ndarray]]:
    _check_chunks(file)
    _check_last_page(file)
    file.seek(0)
    promised = _NIST_FRAMES.search(file.read(1024))
    file.seek(0)
    try:
        # By its descriptor: given a name, libsndfile takes the container from that.
        with _Stream(file.fileno(), closefd=False) as stream:
            if stream.format not in CONTAINERS:
                raise ValueError(
                    f"is of the container {stream.format}: expected one of"
                    f" {', '.join(CONTAINERS)}; convert it"
                )
            read, size = 0, min(BLOCK, max(stream.frames, LEAST))
            while len(block := stream.read(size, dtype="float32", always_2d=True)):
                read += len(block)
                yield stream.samplerate, block
            if stream.format != "MP3":  # of which libsndfile may have guessed the number of frames
                _check_whole(stream, read, int(promised[1]) if promised else stream.frames)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"not readable as audio ({error.error_string})") from error


def _check_whole(stream: soundfile.SoundFile, read: int, frames: int) -> None:
    told = stream.extra_info
    cut = [match for match in _CUT_OFF.findall(told) if int(match[0]) > int(match[1])]
    if cut:
        promised, there = cut[0]
        raise ValueError(f"is cut off: promises {promised} bytes, {there} are there")
    if read < frames:
        raise ValueError(f"is cut off: promises {frames} frames, {read} can be read")
    if "orrupted bitstream" in told or "reports a hole" in told:
        raise ValueError(f"is damaged: {read} frames can be read, others are missing")


def _check_chunks(file: BinaryIO) -> None:
    """Refuse a WAV or AIFF file whose chunks reach beyond its end or do not follow each other."""
    size = os.fstat(file.fileno()).st_size
    head = file.read(12)
    order = {b"RIFF": "little", b"RIFX": "big", b"FORM": "big"}.get(head[:4])
    if order is None:
        return
    end = 8 + int.from_bytes(head[4:8], order)
    place, sounded = 12, False
    # Beyond the end that the header states, others may have appended what they like.
    while place + 8 <= size and (place < end or not sounded):
        file.seek(place)
        name, length = file.read(4), int.from_bytes(file.read(4), order)
        if not _is_name(name) and place % 2 == 0:  # some do not pad a chunk of odd length
            file.seek(place - 1)
            if _is_name(again := file.read(4)):
                name, length, place = again, int.from_bytes(file.read(4), order), place - 1
        if name == bytes(4):  # zeros up to a whole block of the disk
            return
        if not _is_name(name):
            raise ValueError(f"is damaged: no chunk begins at byte {place} of {size}")
        sounded = sounded or name in (b"data", b"SSND")
        place += 8 + length
        if place > size:
            raise ValueError(
                f"is cut off: {name.decode().strip()} promises {length} bytes,"
                f" {size - place + length} are there"
            )
        place += length % 2


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and all(32 <= byte < 127 for byte in name)


def _check_last_page(file: BinaryIO) -> None:
    """Refuse an Ogg file whose last page is not whole or not the last of its stream."""
    file.seek(0)
    if file.read(4) != b"OggS":
        return
    file.seek(max(0, os.fstat(file.fileno()).st_size - _OGG_PAGE))
    tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    header = 27 + page[26] if len(page) > 26 else len(page) + 1
    if len(page) < header or len(page) < header + sum(page[27:header]) or not page[5] & 4:
        raise ValueError("is cut off: its last page is missing")


def _read_mp4(file: BinaryIO) -> Iterator[tuple[int, np.ndarray]]:
    av = import_av()
    try:
        # Of the named format alone: FFmpeg's guess may be one that opens other files.
        with av.open(file, format="mp4") as container:
            if not container.streams.audio:
                raise ValueError("not readable as audio (it has no audio stream)")
            stream = container.streams.audio[0]
            planar = av.AudioResampler(format="fltp")  # only the type of the samples changes
            packets = 0
            for packet in container.demux(stream):
                packets += packet.size > 0
                for frame in packet.decode():
                    for part in planar.resample(frame):
                        yield part.sample_rate, part.to_ndarray().T
            if packets < stream.frames:
                raise ValueError(f"is cut off: promises {stream.frames} packets, holds {packets}")
    except (av.FFmpegError, OSError) as error:  # FFmpeg may seek where no file reaches
        raise ValueError(f"not readable as audio ({error.strerror})") from error


def import_av() -> ModuleType:
    """Import PyAV, which is an extra.

    Raises:
        ValueError: It is not there, with what to do.
    """
    try:
        import av
    except ModuleNotFoundError as error:
        raise ValueError(
            f"reading {' and '.join(sorted(MP4_SUFFIXES))} needs PyAV ({error}): start with"
            " `uv run --extra video train.py` or `uv run --extra video eval.py`"
        ) from error
    return av
