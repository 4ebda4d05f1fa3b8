"""The errors of report.html: what is heard, what is shown of them, and the filter in a browser."""

import base64
import re
import shutil
from collections.abc import Callable
from html import escape
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from ser.corpora.scan import CORPORA
from ser.evaluation.metrics import measure, tabulate
from ser.reporting import errors
from ser.reporting.run_report import write_report

CLASSES = ["angry", "happy", "sad"]
FACTS = {"split": "test", "audit": {"passed": True}, "seconds": {}}
CHROMIUM = shutil.which("chromium")


def wrong(count: int, root: str = "") -> pd.DataFrame:
    """Clips of speakers 01 to 04, all of them named happy; a third is."""
    clips = pd.DataFrame(
        {
            "clip": [f"ravdess/{number}" for number in range(count)],
            "path": [f"{root}{number}.wav" for number in range(count)],
            "corpus": "ravdess",
            "speaker": [f"{number % 4 + 1:02}" for number in range(count)],
            "gender": "male",
            "channel": "speech",
            "emotion": np.resize(CLASSES, count),
            "intensity": "normal",
            "statement": "kids",
            "label": np.resize(CLASSES, count),
        }
    )
    happy = np.linspace(0.5, 0.9, count)
    shares = np.stack([(1 - happy) * 0.75, happy, (1 - happy) * 0.25], axis=1)
    return tabulate(clips, CLASSES, shares)


def noise(seconds: float) -> Callable[[str], tuple[np.ndarray, int]]:
    """Of noise an MP3 is longest."""
    samples = np.random.default_rng(0).integers(-8000, 8000, round(seconds * 48000), np.int16)
    return lambda clip: (samples, 48000)


@pytest.fixture
def write(tmp_path: Path, split_info: object) -> Callable[..., str]:
    def page(table: pd.DataFrame, hear: object) -> str:
        write_report(
            tmp_path, table, measure(table, CLASSES, split_info, **FACTS), [], CORPORA, hear
        )
        return (tmp_path / "report.html").read_text()

    return page


def test_what_is_heard_is_what_went_in():
    tone = np.sin(2 * np.pi * 440 * np.arange(96000) / 48000)
    sound, rate = soundfile.read(BytesIO(errors.encode((tone * 16000).astype(np.int16), 48000)))
    assert rate == errors.RATE
    assert len(sound) / rate == pytest.approx(2, abs=0.1)  # encoders pad
    assert np.abs(np.fft.rfft(sound)).argmax() / (len(sound) / rate) == pytest.approx(440, abs=1)
    assert np.sqrt(np.mean(sound**2)) == pytest.approx(16000 / 32768 / 2**0.5, rel=0.1)


def test_the_most_confident_errors_have_players_and_say_whose_recordings_they_are(
    write: Callable[..., str],
):
    asked = []

    def hear(clip: str) -> tuple[np.ndarray, int]:
        asked.append(clip)
        return noise(0.1)(clip)

    table = wrong(90)
    page = write(table, hear)
    missed = table[table.label != "happy"].sort_values("p_happy", ascending=False)
    assert asked == missed["clip"].head(24).tolist()
    sounds = re.findall(r'src="data:audio/mpeg;base64,([^"]+)"', page)
    assert len(sounds) == page.count("<audio") == 24
    assert all(soundfile.info(BytesIO(base64.b64decode(sound))).frames for sound in sounds)
    assert page.count("<tr data-label") == 60
    assert "The first 60 of 60" in page
    assert escape(CORPORA["ravdess"].licence) in page
    assert f'href="{CORPORA["ravdess"].source}"' in page
    assert "TESS" not in page
    (first,) = missed.head(1).itertuples()
    shown = (
        f'aria-label="angry {first.p_angry:.2f}, happy {first.p_happy:.2f}, sad {first.p_sad:.2f}"'
    )
    assert page.index(shown) < page.index('class="shares"', page.index(shown))


def test_without_players_the_page_holds_no_sound_and_claims_none(write: Callable[..., str]):
    page = write(wrong(90), None)
    assert "<audio" not in page
    assert "audio/mpeg" not in page
    assert "Heard here" not in page
    assert page.count("<tr data-label") == 60


@pytest.mark.parametrize("error", [ValueError("moved"), OSError("gone")])
def test_recordings_that_cannot_be_read_now_are_a_line(write: Callable[..., str], error):
    def hear(clip: str) -> tuple[np.ndarray, int]:
        if clip == "ravdess/80":
            raise error
        return noise(0.1)(clip)

    page = write(wrong(90), hear)
    assert "No players: the recordings cannot be read now." in page
    assert "<audio" not in page


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize(("seconds", "players"), [(9, 24), (300, 1)])
def test_the_page_of_long_clips_is_small(
    write: Callable[..., str], tmp_path: Path, seconds: float, players: int
):
    page = write(wrong(600), noise(seconds))
    assert page.count("<tr data-label") == errors.SHOWN
    assert (tmp_path / "report.html").stat().st_size < 5_000_000
    assert page.count("<audio") == players
    assert ("is too large" in page) == (players < 24)


def test_a_corpus_that_only_a_manifest_names_is_of_unknown_licence(write: Callable[..., str]):
    table = wrong(90).assign(corpus="calls")
    page = write(table, noise(0.1))
    assert "Heard here: calls: licence unknown: ask whoever gave you" in page


def test_names_are_text_and_never_markup(write: Callable[..., str]):
    hostile = "\"><script>alert('x')</script><img src=x onerror=alert(1)>"
    table = wrong(90, root=hostile)
    table["speaker"] = hostile
    page = write(table, noise(0.1))
    assert page.count("<script>") == 1  # of the filter
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert(&#39;x&#39;)" in page


def test_a_run_without_errors_says_so(write: Callable[..., str]):
    table = wrong(90)
    table["label"] = table.emotion = "happy"
    page = write(table, noise(0.1))
    assert "<p>None.</p>" in page
    assert "<audio" not in page


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_the_page_plays_and_filters_in_a_browser_without_a_network(
    write: Callable[..., str], tmp_path: Path
):
    from playwright.sync_api import sync_playwright

    table = wrong(90)
    write(table, noise(0.5))
    asked = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url.partition(":")[0]))
        page.on("pageerror", lambda error: pytest.fail(str(error)))
        page.goto((tmp_path / "report.html").as_uri())
        rows = page.locator("#errors tbody tr:visible")
        assert page.locator("#count").text_content() == "60 of 60 shown"
        page.get_by_label("true").select_option("sad")
        sad = table[table.label == "sad"]
        assert rows.count() == len(sad) == 30
        page.get_by_label("true").focus()  # and on by keys alone
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowDown")
        assert page.get_by_label("speaker").input_value() == "ravdess/01"
        expected = (sad.speaker == "01").sum()
        assert rows.count() == expected
        assert page.locator("#count").text_content() == f"{expected} of 60 shown"
        page.get_by_label("true").select_option("")
        page.get_by_label("speaker").select_option("")
        assert rows.count() == 60
        played = page.evaluate(
            """async () => {
                const [one, two] = document.querySelectorAll("audio");
                await one.play();
                await two.play();
                return [one.duration, one.error, one.paused, two.paused];
            }"""
        )
        browser.close()
    assert played[0] == pytest.approx(0.5, abs=0.15)
    assert played[1:] == [None, True, False]  # the second stops the first
    assert set(asked) <= {"file", "data", "blob"}
