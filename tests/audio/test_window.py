import numpy as np
import pytest

from ser.audio.window import Window

LEADS = {"ravdess": 1.0, "tess": 0.0, None: 0.0}
FIXED = Window(seconds=3.0, sample_rate=10)
NAMED = Window(seconds=3.0, start={"ravdess": 0.5, "tess": "onset", "other": 0.2}, sample_rate=10)
TRIMMED = Window(seconds=3.0, start="onset", trim_end=True, sample_rate=10)


def recording(silence: int, sound: int, tail: int = 0) -> np.ndarray:
    return np.array([1] * silence + [1000] * sound + [1] * tail, np.int16)


@pytest.mark.parametrize(
    ("window", "samples", "corpus", "spans"),
    [
        (FIXED, recording(8, 40), "ravdess", [(10, 40)]),  # 1-4 s
        (FIXED, recording(8, 12), "ravdess", [(10, 20)]),
        (FIXED, recording(0, 5), "ravdess", [(0, 5)]),  # shorter than the silence
        (FIXED, recording(8, 40), "tess", [(0, 30)]),
        (FIXED, recording(8, 12, 5), None, [(8, 25)]),  # from the onset
        (FIXED, recording(0, 30), None, [(0, 30)]),
        (FIXED, recording(0, 31), None, [(0, 30), (15, 31)]),  # 1.5 s apart
        (FIXED, recording(0, 61), None, [(0, 30), (15, 45), (30, 60), (45, 61)]),
        (FIXED, np.zeros(7, np.int16), None, [(0, 7)]),
        (TRIMMED, recording(8, 12, 5), "ravdess", [(8, 20)]),
        (TRIMMED, recording(8, 40, 5), "tess", [(8, 38)]),
        (NAMED, recording(8, 40), "ravdess", [(5, 35)]),
        (NAMED, recording(8, 40), "tess", [(8, 38)]),
        (NAMED, recording(8, 20), None, [(2, 28)]),
    ],
)
def test_spans(window: Window, samples: np.ndarray, corpus: str | None, spans: list):
    assert window.spans(samples, corpus, LEADS[corpus]) == spans


def test_a_cut_is_padded_with_zeros():
    samples = np.arange(1, 26, dtype=np.int16)
    cut = FIXED.cut(samples, (10, 25))
    assert cut.shape == (30,)
    assert cut[:15].tolist() == list(range(11, 26))
    assert not cut[15:].any()


def test_windows_cover_a_long_recording_to_its_end():
    samples = recording(3, 1000)
    spans = FIXED.spans(samples)
    heard = np.zeros(len(samples), bool)
    for begin, end in spans:
        heard[begin:end] = True
    assert heard[3:].all()
    assert all(end > begin for begin, end in spans)


def test_a_hop_below_one_sample_is_refused():
    with pytest.raises(ValueError, match=r"hop_seconds=1e-05: expected at least one sample"):
        Window(seconds=3.0, hop_seconds=1e-5)
    assert Window(seconds=3.0, hop_seconds=0.1, sample_rate=10).hop_seconds == 0.1


@pytest.mark.parametrize("seconds", [1, 2])
@pytest.mark.parametrize("length", [5, 16, 21, 34, 50])
def test_no_window_begins_behind_the_end(seconds: int, length: int):
    window = Window(seconds, hop_seconds=1.5, sample_rate=10)
    spans = window.spans(np.ones(length, np.int16))
    assert all(0 <= begin < end <= length for begin, end in spans)
    assert spans[-1][1] == length or seconds < 1.5  # a hop beyond the window leaves gaps
