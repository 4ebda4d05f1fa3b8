"""The frames of an MP3, counted: its header need not say how many there are."""

import mmap
from typing import BinaryIO

# kbit/s by the code of a frame's header, from 1 on: MPEG 1 layers 1 to 3, then MPEG 2 and 2.5.
_RATES_1 = (
    (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
)
_LATER = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES_2 = ((32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256), _LATER, _LATER)
_SAMPLE_RATES = (44100, 48000, 32000)
_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3")

SLACK = 4
"""Frames that an encoder may add before and after the sound, and a decoder takes away."""


def check_frames(file: BinaryIO, read: int) -> None:
    """Refuse an MP3 that is cut off, or of which not all was read.

    Args:
        file: An MP3.
        read: Samples of each channel that the decoder gave.

    Raises:
        ValueError: Something is missing.
    """
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        samples, each = _count(data)
    if samples - read > SLACK * each:
        raise ValueError(
            f"is damaged or lacks an index: holds {samples} frames, {read} can be read; convert it"
        )


def _count(data: mmap.mmap) -> tuple[int, int]:
    """Count the samples of all MPEG frames, and those of one."""
    place, samples, each, promised = _skip_tags(data), 0, 0, 0
    while place + 4 <= len(data):
        frame = _frame(data[place : place + 4])
        if frame is None:
            tagged = data[place : place + 16].startswith(_TAGS)
            if samples and (tagged or not data[place:].strip(b"\0")):
                break
            if samples:
                raise ValueError(f"is damaged: no frame begins at byte {place} of {len(data)}")
            place += 1  # a stream may begin amid a frame
            continue
        length, each = frame
        promised = promised if samples else _index(data[place : place + length])
        place += length
        samples += each
    if place > len(data):
        raise ValueError(f"is cut off: its last frame lacks {place - len(data)} bytes")
    if samples and samples // each - 1 < promised:  # the index is in a frame of its own
        raise ValueError(
            f"is cut off: promises {promised} MPEG frames, holds {samples // each - 1}"
        )
    return samples, each


def _skip_tags(data: mmap.mmap) -> int:
    place = 0
    while data[place : place + 3] == b"ID3" and place + 10 <= len(data):
        sizes = zip(data[place + 6 : place + 10], (21, 14, 7, 0), strict=True)
        place += 10 + sum(byte << shift for byte, shift in sizes)
    return place


def _index(frame: bytes) -> int:
    """Give the number of frames that follow by this one, 0 where it is no index."""
    place = max(frame.find(b"Xing", 0, 64), frame.find(b"Info", 0, 64))
    counted = place >= 0 and int.from_bytes(frame[place + 4 : place + 8]) & 1
    return int.from_bytes(frame[place + 8 : place + 12]) if counted else 0


def _frame(header: bytes) -> tuple[int, int] | None:
    """Give bytes and samples of the frame with this header of four bytes, if it is one."""
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    code, rate = header[2] >> 4, header[2] >> 2 & 3
    synchronised = header[0] == 0xFF and header[1] >= 0xE0
    if not synchronised or version == 1 or layer == 4 or code in (0, 15) or rate == 3:
        return None
    kilobits = (_RATES_1 if version == 3 else _RATES_2)[layer - 1][code - 1]
    sample_rate = _SAMPLE_RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]
    padding = header[2] >> 1 & 1
    if layer == 1:
        return (12000 * kilobits // sample_rate + padding) * 4, 384
    samples = 576 if layer == 3 and version != 3 else 1152
    return samples * 125 * kilobits // sample_rate + padding, samples
