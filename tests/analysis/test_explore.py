"""Recordings are drawn as the model sees them; a corpus is counted and measured."""

import json
import runpy
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from ser.analysis.spectra import PITCHES, Spectra, draw, levels
from ser.audio.clips import open_waveforms
from ser.audio.window import Window
from ser.corpora.clip import COLUMNS
from ser.corpora.scan import scan
from ser.features.spectral import MFCC, Chroma, LogMel

pytestmark = pytest.mark.usefixtures("pictures")
RATE = 16000
WINDOW = Window(1.0, {"ravdess": 1.0, "tess": 0.0, "other": "onset"}, 0.5, sample_rate=RATE)
TONE = np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)


@pytest.fixture
def launch_explore(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path
) -> Callable[..., Path]:
    def launch(*overrides: str) -> Path:
        monkeypatch.chdir(tmp_path)
        arguments = [f"cache.dir={cache}", "hydra.run.dir=seen"]
        monkeypatch.setattr(sys, "argv", ["explore", *overrides, *arguments])
        # Run as a program it must not be there already as a module.
        monkeypatch.delitem(sys.modules, "ser.explore", raising=False)
        runpy.run_module("ser.explore", run_name="__main__")
        return tmp_path / "seen"

    return launch


def spectra(path: Path, nth: int = 0) -> Spectra:
    frontends = MFCC(sample_rate=RATE), LogMel(sample_rate=RATE), Chroma(sample_rate=RATE)
    return Spectra(path, WINDOW, *frontends, nth=nth)


def test_levels_are_in_dbfs():
    full_scale = np.rint(TONE * 32767).astype(np.int16)
    assert levels(full_scale) == pytest.approx((-3.0103, 0), abs=1e-3)
    assert levels(full_scale // 10) == pytest.approx((-23.01, -20), abs=0.01)
    assert levels(np.full(9, -32768, np.int16)) == (0, 0)
    assert levels(np.zeros(9, np.int16)) == pytest.approx((-90.309, -90.309), abs=1e-3)


def test_windows_and_features_are_those_of_the_model(tmp_path: Path):
    # Half a second of silence, two of a tone: windows of 1 s begin at .5, 1 and 1.5 s.
    path = tmp_path / "tone [1].wav"
    soundfile.write(path, np.r_[np.zeros(RATE // 2), 0.5 * TONE], RATE)
    seen = spectra(path, nth=1)
    np.testing.assert_allclose(seen.seconds, [(0.5, 1.5), (1, 2), (1.5, 2.5)], atol=1e-3)
    assert seen.describe() == (
        "tone [1].wav: 2.50 s, RMS -10.0 dBFS, peak -6.0 dBFS; window 1 (the last is 2) 1.00 to"
        " 2.00 s"
    )
    begin, end = seen.spans[1]
    heard = torch.from_numpy(soundfile.read(path, dtype="float32")[0][begin:end])[None]
    assert np.array_equal(seen.mfcc, MFCC(sample_rate=RATE)(heard)[0, 0])
    assert np.array_equal(seen.logmel, LogMel(sample_rate=RATE)(heard)[0, 0])
    assert PITCHES[seen.chroma[:, 15].argmax()] == "A"
    with pytest.raises(
        ValueError, match=r"nth=3: expected a whole number from 0 to 2, as .* 2\.50"
    ):
        spectra(path, nth=3)


def test_the_picture_says_units_and_where_padding_begins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    path = tmp_path / "03-01-05-01-02-01-16.wav"
    soundfile.write(path, 0.5 * TONE[: RATE + RATE // 4], RATE)
    seen = spectra(path)
    assert seen.describe().endswith("window 1.00 to 1.25 s, padded by 0.75 s")
    drawn = []
    monkeypatch.setattr("ser.analysis.spectra.plt.close", drawn.append)
    draw(seen, tmp_path / "recording.png")
    monkeypatch.undo()
    (figure,) = drawn
    wave, mfcc, logmel, chroma, *bars = figure.axes
    assert (wave.get_xlim(), wave.get_xlabel()) == ((0, 1.25), "time (s)")
    assert wave.get_legend().texts[0].get_text() == "drawn below: 1.00 to 1.25 s"
    assert [bar.get_ylabel() for bar in bars][:2] == ["MFCC (dB)", "log-mel (dB)"]
    for axes in (mfcc, logmel, chroma):
        assert axes.get_xlim() == pytest.approx((1, 2), abs=0.02)
        assert list(axes.lines[0].get_xdata()) == [1.25, 1.25]
    assert "(s)" in chroma.get_xlabel()
    # The strongest band of a tone of 440 Hz stands where the axis says 440 Hz.
    at = np.interp(
        440, [int(tick.get_text()) for tick in logmel.get_yticklabels()], logmel.get_yticks()
    )
    assert seen.logmel[:, 2].argmax() == pytest.approx(at, abs=1)
    import matplotlib.pyplot as plt

    plt.close(figure)


@pytest.mark.parametrize("samples", [np.zeros(RATE), np.ones(3)])
def test_silence_and_a_click_are_drawn(tmp_path: Path, samples: np.ndarray):
    soundfile.write(tmp_path / "some.wav", samples, RATE)
    draw(spectra(tmp_path / "some.wav"), tmp_path / "some.png")
    assert (tmp_path / "some.png").stat().st_size > 10_000


def test_a_clip_by_its_official_name(launch_explore, demo: Path, capsys):
    for name in ("03-01-05-01-02-01-11", "03-01-05-01-02-01-11.wav", "YAF_back_ps"):
        folder = launch_explore("data=demo", f"input={name}", "mfcc.bins=13")
        title = f"{name.removesuffix('.wav')}.wav: "
        assert title in capsys.readouterr().out
        html = (folder / "recording.html").read_text()
        assert title in html
        assert "data:image/png;base64," in html
    assert (folder / "recording.png").stat().st_size > 50_000
    assert json.loads((folder / "status.json").read_text())["status"] == "finished"


def test_a_file_of_ones_own(launch_explore, tmp_path: Path, capsys):
    (tmp_path / "mine").mkdir()
    soundfile.write(tmp_path / "mine" / "it is, me.flac", np.r_[TONE, TONE, TONE] * 0.1, RATE)
    launch_explore("input='mine/it is, me.flac'", "nth=2", "window.seconds=2")
    printed = capsys.readouterr().out
    assert "it is, me.flac: 6.00 s, RMS -23.0 dBFS, peak -20.0 dBFS; window 2 (the last" in printed
    assert "3.00 to 5.00 s" in printed


def test_a_corpus_is_counted_and_measured(launch_explore, demo: Path, capsys):
    folder = launch_explore("data=demo", "data.drop=[calm]", "window=trimmed")
    clips = pd.read_csv(folder / "clips.csv", dtype={"speaker": str})
    expected = pd.DataFrame(
        [asdict(clip) | {"path": str(clip.path.relative_to(demo))} for clip in scan(demo).clips]
    )
    expected = expected.loc[expected.emotion != "calm", [*COLUMNS]].reset_index(drop=True)
    pd.testing.assert_frame_equal(clips[expected.columns], expected)
    groups = pd.read_csv(folder / "corpus.csv")
    keys = ["label", "corpus", "channel", "gender", "modality"]
    by_hand = expected.rename(columns={"emotion": "label"}).groupby(keys).path.size()
    assert groups.set_index(keys).clips.to_dict() == by_hand.to_dict()
    assert groups.label.unique().tolist()[:3] == ["neutral", "happy", "sad"]
    row = clips.iloc[-1]
    samples, rate = soundfile.read(demo / row.path)
    assert row.duration_s == pytest.approx(len(samples) / rate, abs=1e-4)
    rms = 20 * np.log10(np.sqrt(np.mean(samples**2)))
    assert row.rms_dbfs == pytest.approx(rms, abs=0.05)  # resampled
    assert row.peak_dbfs == pytest.approx(20 * np.log10(np.abs(samples).max()), abs=0.5)
    assert ((clips.window_end_s - clips.window_start_s).between(0.5, 3)).all()
    printed = capsys.readouterr().out
    assert f"{len(expected)} clips of 14 speakers" in printed
    assert "calm" not in printed
    assert (folder / "corpus.png").stat().st_size > 20_000
    assert f"{len(expected)} clips of 14 speakers" in (folder / "corpus.html").read_text()


@pytest.mark.slow
def test_what_a_run_has_decoded_is_not_decoded_again(launch_explore, demo: Path, cache: Path):
    open_waveforms([clip.path for clip in scan(demo).clips], demo, 48000, cache)  # as runs do
    before = set(cache.glob("audio-*"))
    for selection in ("data.corpora=[tess]", "data.drop=[sad]", "window.seconds=2"):
        launch_explore("data=demo", selection)
    assert set(cache.glob("audio-*")) == before


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ("data.root=data", "input=nowhere"),
            "input='nowhere' is neither a file nor a clip below data: expected",
        ),
        (("data=demo", "input=03-01-05-01-02-01-24"), "input='03-01-05-01-02-01-24' is neither"),
        (("input=folder",), "input='folder' is a folder: expected an audio file"),
        (("input=text.txt",), "text.txt: not readable as audio"),
        (("data.root=nowhere",), "data.root='nowhere' is not a folder"),
        (("data=demo", "data.channels=[song]", "data.corpora=[tess]"), "none of the 616 clips of"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(launch_explore, tmp_path, overrides, line):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.txt").write_text("no sound")
    with pytest.raises(SystemExit) as end:
        launch_explore(*overrides)
    assert end.value.code == 1
    status = json.loads((tmp_path / "seen" / "status.json").read_text())
    assert status["status"] == "failed"
    assert status["error"].startswith(line)
