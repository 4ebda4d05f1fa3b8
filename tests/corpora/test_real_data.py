"""The real recordings, where they are at hand."""

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser.audio.decode import decode
from ser.corpora.clip import EMOTIONS
from ser.corpora.scan import scan
from ser.splits.leakage import audit
from ser.splits.protocols import Holdout, Random
from ser.splits.roles import assign

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def clips(recordings: Path):
    found = scan(recordings)
    assert not found.copies
    return found.clips


def test_the_counts_are_those_of_the_folder(clips):
    assert Counter((clip.corpus, clip.channel) for clip in clips) == {
        ("ravdess", "speech"): 1200,
        ("ravdess", "song"): 836,
        ("tess", "speech"): 2798,
    }


def test_four_unseen_speakers_with_every_emotion_test(clips):
    splits = assign(clips, Holdout(), {"ravdess": "split", "tess": "train"})
    members = defaultdict(set)
    for clip in clips:
        members[splits[clip.clip]].add((clip.speaker, clip.gender))
    for split in ("val", "test"):
        assert Counter(gender for _, gender in members[split]) == {"male": 2, "female": 2}
        emotions = {clip.emotion for clip in clips if splits[clip.clip] == split}
        assert emotions == set(EMOTIONS)
    assert not members["test"] & (members["train"] | members["val"])


def test_stereo_clips_give_their_first_channel(clips):
    stereo = [clip for clip in clips if clip.path.stem == "03-01-02-01-01-02-01"]
    (clip,) = stereo
    frames, _ = soundfile.read(clip.path, dtype="int16")
    assert frames.shape[1] == 2
    assert np.array_equal(decode(clip.path, 48000), frames[:, 0])


def test_tess_is_resampled_to_its_own_length(clips):
    for clip in [clip for clip in clips if clip.corpus == "tess"][::400]:
        info = soundfile.info(clip.path)
        expected = info.frames / info.samplerate
        assert len(decode(clip.path, 48000)) / 48000 == pytest.approx(expected, abs=1e-3)


def test_the_identical_pair_of_the_release_is_found_across_a_random_split(clips):
    speaker = [clip for clip in clips if clip.speaker == "07" and clip.channel == "speech"]
    hashes = [hash(decode(clip.path, 48000).tobytes()) for clip in speaker]
    pair = [f"03-01-03-01-02-{take}-07.flac" for take in ("01", "02")]
    crossed = 0
    for fold in range(5):
        assigned = assign(clips, Random(), {"ravdess": "split"}, fold)
        splits = [assigned[clip.clip] for clip in speaker]
        found = audit(speaker, splits, hashes, leaky=True)
        assert found["samples_repeated"] == [pair]
        sides = {splits[row] for row, clip in enumerate(speaker) if clip.path.name in pair}
        assert found["samples_shared"] == ([pair] if len(sides) == 2 else [])
        crossed += len(sides) == 2
    assert crossed
