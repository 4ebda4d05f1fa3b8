"""The page: what it shows and refuses, by its functions, by its routes and in a browser."""

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pytest
import soundfile
from fastapi import FastAPI
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright
from starlette.testclient import TestClient

import ser
from ser.checkpoints.trust import check_value
from ser.corpora.scan import CORPORA
from ser.inference.facts import describe_checkpoint
from ser.inference.model import Model, Prediction, WindowPrediction
from ser.page import interface, server
from ser.page.timeline import COLUMNS, Outline, draw_timeline

REPOSITORY = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)


@pytest.fixture(scope="module")
def checkpoint(svm_run: Path) -> Path:
    return svm_run / "checkpoints" / "best.ckpt"


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> Model:
    return ser.load(checkpoint)


@pytest.fixture
def clip(few: Path) -> Path:
    return sorted(few.glob("Actor_02/*.wav"))[3]


def uploaded(folder: Path, file: Path) -> Path:
    (folder / "token").mkdir(parents=True)
    return Path(shutil.copy(file, folder / "token"))


def test_the_facts_are_those_of_the_run(svm_run: Path, model: Model):
    facts = describe_checkpoint(model.checkpoint)
    splits = pd.read_csv(svm_run / "split.csv", dtype=str)
    learned = splits[splits.split == "train"]
    for corpus, rows in learned.groupby("corpus"):
        told = f"{CORPORA[corpus].title}, {len(rows)} clips of {rows.speaker.nunique()} speakers"
        assert told in facts.trained
        assert CORPORA[corpus].licence in facts.licences
    metrics = json.loads((svm_run / "metrics.json").read_text())
    assert facts.score.startswith(f"UAR {100 * metrics['uar']:.1f} % [")
    assert f"chance 12.5 %) on {metrics['n']} test clips of" in facts.score
    assert facts.title == "default · run/best.ckpt"
    assert facts.stamps == []
    assert any("actors" in limit for limit in facts.limits)


def test_stamps_and_a_score_of_another_run_are_not_hidden(model: Model, tmp_path: Path):
    checkpoint = model.checkpoint
    leaky = replace(checkpoint, split_info=replace(checkpoint.split_info, leaky=True, refit=True))
    facts = describe_checkpoint(leaky)
    assert [stamp.partition(":")[0] for stamp in facts.stamps] == ["LEAKY", "REFIT"]
    assert facts.score.startswith("not known")  # the metrics beside it are of a split without leaks
    moved = replace(checkpoint, path=tmp_path / "a" / "b.ckpt")
    assert describe_checkpoint(moved).score.startswith("not known")
    last = replace(checkpoint, path=checkpoint.path.with_name("last.ckpt"))
    assert describe_checkpoint(last).score.endswith("of best.ckpt of this run")


def test_what_is_of_no_known_corpus_or_synthetic_is_told_so(model: Model):
    own = model.checkpoint.split.rename(lambda clip: clip.replace("ravdess/", "mine/"))
    facts = describe_checkpoint(replace(model.checkpoint, split=own))
    assert any(re.fullmatch(r"mine, \d+ clips", line) for line in facts.trained)
    assert "mine: not known here, ask its owner" in facts.licences
    data = model.checkpoint.config["data"] | {"root": {"_target_": "ser.corpora.demo.build"}}
    config = model.checkpoint.config | {"data": data}
    facts = describe_checkpoint(replace(model.checkpoint, config=config))
    assert "nobody spoke it" in facts.trained[-1]
    assert facts.licences == ["a synthetic corpus has no licence of others"]


def test_the_outline_of_any_length_is_short_and_has_every_peak(tmp_path: Path):
    samples = np.zeros((90 * 8000, 2), np.float32)
    samples[200_000, 1], samples[500_001, 0] = 0.5, -0.25
    soundfile.write(tmp_path / "long.wav", samples, 8000)
    outline = Outline.read(tmp_path / "long.wav", 90)
    assert outline.seconds == 90
    assert len(outline.starts) == len(outline.low) <= COLUMNS
    assert outline.high.max() == 0.5
    assert outline.low.min() == -0.25
    high, low = outline.starts[outline.high.argmax()], outline.starts[outline.low.argmin()]
    assert high <= 25 < high + 0.1
    assert low <= 62.500125 < low + 0.1
    with pytest.raises(ValueError, match=r"is longer than 1\.49 minutes"):
        Outline.read(tmp_path / "long.wav", 1.49 * 60)


def test_the_timeline_is_each_windows_probabilities_and_marks_what_is_sure():
    shares = [{"calm": 0.9, "sad": 0.1}, {"calm": 0.4, "sad": 0.6}, {"calm": 0.2, "sad": 0.8}]
    labels = ["calm", "unsure", "sad"]
    windows = [
        WindowPrediction(1.5 * place, 1.5 * place + 3, label, share)
        for place, (label, share) in enumerate(zip(labels, shares, strict=True))
    ]
    outline = Outline(6.5, np.arange(6.0), -np.ones(6), np.ones(6))
    prediction = Prediction(Path("x.wav"), "sad", shares[1], windows)
    wave, lower, *_ = draw_timeline(outline, prediction).axes
    drawn = lower.collections[0]
    np.testing.assert_allclose(drawn.get_array(), [[0.9, 0.4, 0.2], [0.1, 0.6, 0.8]])
    np.testing.assert_allclose(drawn.get_coordinates()[0, :, 0], [0, 1.5, 3, 6])
    np.testing.assert_allclose(lower.lines[0].get_xydata(), [[0.75, 0], [4.5, 1]])
    assert wave.get_xlim() == (0, 6.5)
    single = replace(prediction, windows=windows[:1])
    assert len(draw_timeline(outline, single).axes) == 1


def test_an_answer_is_that_of_the_model_and_its_upload_is_deleted(
    model: Model, clip: Path, tmp_path: Path
):
    shown = interface.Page([model, model], tmp_path / "uploads", 1)
    upload = uploaded(tmp_path / "uploads", clip)
    recording, status, *parts = shown.answer(None, str(upload))
    expected = model.predict(clip)
    assert recording is None
    assert f"{clip.name}, " in status
    assert len(parts) == 10
    for panel, headline, probabilities, _, table in (parts[:5], parts[5:]):
        assert panel.visible
        assert f'<p class="answer">{expected.label}</p>' in headline
        assert probabilities == expected.probabilities
        assert [row[2] for row in table["data"]] == [each.label for each in expected.windows]
    assert list((tmp_path / "uploads").iterdir()) == []


def test_what_is_unsure_or_was_trained_on_is_told_so(
    checkpoint: Path, svm_run: Path, few: Path, tmp_path: Path
):
    model = ser.load(checkpoint, abstain=0.0)
    model.threshold = 1.1
    shown = interface.Page([model], tmp_path / "uploads", 1)
    splits = pd.read_csv(svm_run / "split.csv", dtype=str)
    for split in ("train", "test"):
        name = Path(splits[splits.split == split].path.iloc[0]).name
        upload = uploaded(tmp_path / "uploads", next(few.rglob(name)))
        headline = shown.answer(None, str(upload))[3]
        assert '<p class="answer unsure">unsure</p>' in headline
        assert ("trained on this very recording" in headline) == (split == "train")


def test_what_cannot_be_answered_is_one_line_and_nothing_else_is_touched(
    model: Model, clip: Path, tmp_path: Path
):
    shown = interface.Page([model], tmp_path / "uploads", 0.02)
    (tmp_path / "<b>x.wav").write_bytes(b"RIFF")
    for file, reason in ((tmp_path / "<b>x.wav", "not readable as audio"), (clip, "0.02 minutes")):
        upload = uploaded(tmp_path / "uploads", file)
        recording, status, panel, *rest = shown.answer(None, str(upload))
        assert recording is None
        assert reason in status
        assert str(tmp_path) not in status
        assert "<b>" not in status
        assert not panel.visible
        assert rest == ["", None, None, None]
        assert not upload.exists()
    # Of the machine's own files none is read or deleted.
    folder = tmp_path / "uploads"
    kept = uploaded(folder, clip)
    for path in (clip, folder, folder / "x", folder / ".." / "x", folder / "token", "\0", "", None):
        status = shown.answer(None, path and str(path))[1]
        assert "upload it again" in status
    assert clip.exists()
    assert kept.exists()


@pytest.fixture
def client(model: Model, tmp_path: Path) -> Iterator[TestClient]:
    os.environ["GRADIO_TEMP_DIR"] = str(tmp_path)

    async def build() -> FastAPI:
        return server.build_app(interface.Page([model], tmp_path / "uploads", 1), 1, loopback=True)

    # Where none is running Gradio makes event loops, which nobody closes.
    with TestClient(asyncio.run(build()), base_url="http://127.0.0.1") as client:
        yield client


def test_the_door_knows_the_page_and_no_more(client: TestClient):
    found = client.get("/")
    assert found.status_code == 200
    assert "default-src 'self'" in found.headers["content-security-policy"]
    assert client.get("/", headers={"host": "elsewhere.org"}).status_code == 400
    upload = {"files": ("x.wav", b"x")}
    for origin, status in (("http://elsewhere.org", 403), ("http://127.0.0.1", 200)):
        asked = client.post("/gradio_api/upload", files=upload, headers={"origin": origin})
        assert asked.status_code == status
    for route in ("info", "api/answer", "run/answer", "call/answer", "process_recording", "reset"):
        assert client.get(f"/gradio_api/{route}").status_code == 404
        assert client.post(f"/gradio_api/{route}", json={}).status_code == 404
    for route in ("/monitoring", "/openapi.json", "/docs", "/gradio_api/runs"):
        assert client.get(route).status_code == 404
    for path in ("/etc/hostname", __file__, "http://example.org/"):
        assert client.get(f"/gradio_api/file={path}").status_code in (403, 404)


def test_a_request_may_name_no_file_and_no_address(client: TestClient, clip: Path):
    for path in (str(clip), "http://example.org/x.wav"):
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        for data in ([file, ""], [None, {"a": [file]}]):
            request = {"data": data, "fn_index": 0, "session_hash": "x"}
            answer = client.post("/gradio_api/queue/join", json=request)
            assert (answer.status_code, answer.text) == (400, "The request names a file.")
    for content in (b"{", b"[" * 60_000, b" " * 70_000):
        assert client.post("/gradio_api/queue/join", content=content).status_code == 400
    request = {"data": [None, "x"], "fn_index": 0, "session_hash": "x"}
    assert client.post("/gradio_api/queue/join", json=request).status_code == 200


def test_uploads_have_limits_and_folders_of_their_own(client: TestClient, tmp_path: Path):
    def upload(name: str, content: bytes) -> object:
        return client.post("/gradio_api/upload", files={"files": (name, content)})

    paths = [Path(*upload("../../../a<b>:/x.wav", b"same").json()) for _ in range(2)]
    assert paths[0] != paths[1]
    for path in paths:
        assert path.name == "x.wav"
        assert path.parents[1] == tmp_path / "uploads"
        assert path.read_bytes() == b"same"
    assert Path(*upload("語" * 200 + ".wav", b"x").json()).exists()
    refused = upload("x.wav", bytes(1_100_000))
    assert (refused.status_code, refused.text) == (413, "The file is larger than 1 MB.")
    assert client.post("/gradio_api/upload", content=iter([b"x"])).status_code == 413
    os.utime(paths[0].parent, (0, 0))  # nobody has asked for its answer
    assert upload("..", b"x").status_code == 200
    assert not paths[0].exists()
    statuses = [upload("x.wav", b"x").status_code for _ in range(interface.WAITING)]
    assert statuses[-1] == 503
    assert len(list((tmp_path / "uploads").iterdir())) == interface.WAITING


def test_the_port_is_this_machines_and_free(caplog: pytest.LogCaptureFixture):
    with closing(server._listen("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=rf"port={port} cannot be taken \(Address already in"):
            server._listen("127.0.0.1", port)
    with pytest.raises(ValueError, match=r"host=192\.0\.2\.1 port=0 cannot be taken"):
        server._listen("192.0.2.1", 0)
    assert caplog.text == ""
    server._listen("0.0.0.0", 0).close()
    assert "host=0.0.0.0: whoever reaches this machine may use the page" in caplog.text


def test_every_key_of_the_command_has_a_type():
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        config = OmegaConf.to_container(compose("app"))
    assert config.keys() == server.SETTINGS.keys()
    for key, value in config.items():
        check_value(value, server.SETTINGS[key], key)
    for key, value in (
        ("ckpt", []),
        ("port", 70000),
        ("max_mb", 0),
        ("max_minutes", 241),
    ):
        with pytest.raises(ValueError, match=re.escape(f"{key}={value!r}: expected")):
            server.serve(**config | {key: value}, folder=Path())


def test_the_commands_of_its_page_are_composed():
    text = (REPOSITORY / "docs" / "page.md").read_text()
    commands = re.findall(r"^uv run --extra app python -m ser\.app ([^#\n]*)", text, re.MULTILINE)
    assert len(commands) >= 4
    for command in commands:
        with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
            config = OmegaConf.to_container(
                compose("app", shlex.split(command.replace("<time>", "x")))
            )
        for key, value in config.items():
            check_value(value, server.SETTINGS[key], key)
        assert config["ckpt"]


def start(tmp: Path, *arguments: str, code: str = "") -> subprocess.Popen:
    module = "import runpy; runpy.run_module('ser.app', run_name='__main__')"
    return subprocess.Popen(
        [sys.executable, "-c", f"{code}\n{module}", *arguments],
        cwd=tmp,
        env=os.environ | {"TMPDIR": str(tmp), "PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
        text=True,
    )


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_a_start_that_fails_is_one_line(tmp_path: Path, checkpoint: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for arguments, code, expected in (
            ([f"ckpt={tmp_path}"], "", "is not a file: expected ckpt="),
            ([f"ckpt={checkpoint}", f"port={port}"], "", "cannot be taken (Address already in use"),
            ([], "import sys; sys.modules['gradio'] = None", "`uv run --extra app python -m ser."),
        ):
            process = start(tmp_path, *arguments, code=code)
            _, told = process.communicate(timeout=120)
            assert process.returncode == 1
            assert expected in told
            assert len(told.splitlines()) == 1
    assert files(tmp_path) == []


@dataclass
class Server:
    """The page of a checkpoint, in a process of its own.

    Attributes:
        url: Of it.
        tmp: The folder that it has for temporary files.
        checkpoint: What answers.
        process: The process.
    """

    url: str
    tmp: Path
    checkpoint: Path
    process: subprocess.Popen


@pytest.fixture(scope="module")
def running(cnn_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    tmp = tmp_path_factory.mktemp("server")
    # For the picture of docs/page.md, which the model of two epochs would not adorn.
    ckpt = Path(os.environ.get("SER_PAGE_CKPT", cnn_run / "checkpoints" / "best.ckpt")).absolute()
    process = start(tmp, f"ckpt={ckpt}", "port=0", "max_mb=3")
    line = process.stderr.readline()
    found = re.fullmatch(r"(http://127\.0\.0\.1:\d+) answers until Ctrl-C\n", line)
    assert found, line
    yield Server(found[1], tmp, ckpt, process)
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        required = os.environ.get("SER_BROWSER") == "required"
        (pytest.fail if required else pytest.skip)("neither chromium nor google-chrome is here")
    with sync_playwright() as playwright:
        # What it hears is a tone, and nobody is asked whether it may.
        heard = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", *heard]
        )
        yield browser
        browser.close()


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def tab(browser: Browser, running: Server, asked: list[str]) -> Iterator[Page]:
    yield (opened := open_tab(browser, running, asked))
    opened.context.close()
    assert {urlsplit(url).hostname for url in asked if not url.startswith("blob:")} == {"127.0.0.1"}


def open_tab(browser: Browser, running: Server, asked: list[str]) -> Page:
    opened = browser.new_context(viewport={"width": 1280, "height": 840}).new_page()
    opened.on("request", lambda request: asked.append(request.url))
    show(opened, running)
    return opened


def show(opened: Page, running: Server) -> None:
    opened.goto(running.url)
    opened.locator("#recording input[type=file]").wait_for(state="attached", timeout=60_000)


def upload(opened: Page, file: Path) -> None:
    opened.locator("#recording input[type=file]").set_input_files(file)


def read_answer(opened: Page, file: Path) -> str:
    opened.locator("#status", has_text=f"{file.name}, ").wait_for(timeout=60_000)
    return opened.locator("#answer-0 .answer").inner_text()


@pytest.mark.slow
def test_the_browser_shows_what_python_answers(
    tab: Page, running: Server, few: Path, tmp_path: Path, asked: list[str]
):
    errors: list[ConsoleMessage] = []
    tab.on("console", lambda message: errors.append(message) if message.type == "error" else None)
    clips = [soundfile.read(path) for path in sorted(few.glob("Actor_02/03-01-*.wav"))[3:9]]
    talk, rate = np.concatenate([samples for samples, _ in clips]), clips[0][1]
    soundfile.write(tmp_path / "talk.wav", talk, rate, "PCM_16")
    expected = ser.load(running.checkpoint).predict(tmp_path / "talk.wav")
    upload(tab, tmp_path / "talk.wav")
    assert read_answer(tab, tmp_path / "talk.wav") == expected.label
    picture = Path(os.environ.get("SER_PAGE_PICTURE", tmp_path / "page.png"))
    tab.locator(".matplotlib img").wait_for()
    tab.wait_for_timeout(1000)  # the bars grow
    tab.screenshot(path=picture)
    assert 20_000 < picture.stat().st_size < 200_000
    tab.get_by_text("Windows").click()
    tab.get_by_text(f"{expected.windows[1].probabilities['sad']:.3f}").first.wait_for()
    assert errors == []
    assert files(running.tmp) == []


@pytest.mark.slow
def test_a_broken_file_is_told_and_the_page_goes_on(
    tab: Page, running: Server, clip: Path, tmp_path: Path
):
    (tmp_path / "large.wav").write_bytes(bytes(3 * 2**20 + 1))
    upload(tab, tmp_path / "large.wav")
    tab.get_by_text("exceed the maximum allowed size").first.wait_for()
    show(tab, running)
    (tmp_path / "broken.wav").write_bytes(clip.read_bytes()[:2000])
    upload(tab, tmp_path / "broken.wav")
    failed = tab.locator("#status .failed", has_text="broken.wav: is cut off")
    failed.wait_for(timeout=60_000)
    assert str(running.tmp) not in failed.inner_text()
    assert files(running.tmp) == []
    upload(tab, clip)
    assert read_answer(tab, clip) == ser.load(running.checkpoint).predict(clip).label


@pytest.mark.slow
def test_two_at_once_get_their_own_answers(
    tab: Page, browser: Browser, running: Server, few: Path, asked: list[str]
):
    model = ser.load(running.checkpoint)
    clips = sorted(few.glob("Actor_0[12]/*.wav"))
    labels = {clip: model.predict(clip).label for clip in clips}
    first = clips[0]
    second = next(clip for clip in clips if labels[clip] != labels[first])
    other = open_tab(browser, running, asked)
    for one, another in ((first, second), (first, first), (second, first)):
        show(tab, running)
        show(other, running)
        upload(tab, one)
        upload(other, another)
        assert read_answer(tab, one) == labels[one]
        assert read_answer(other, another) == labels[another]
    other.context.close()
    assert files(running.tmp) == []


@pytest.mark.slow
def test_a_microphone_is_heard(tab: Page, running: Server):
    tab.get_by_label("Record audio").click()
    tab.locator("#recording .record-button").click()
    tab.wait_for_timeout(2000)
    tab.locator("#recording .stop-button").click()
    tab.locator("#status", has_text="deleted after this answer").wait_for(timeout=60_000)
    assert float(re.search(r", ([\d.]+) s;", tab.locator("#status").inner_text())[1]) > 1
    assert files(running.tmp) == []


@pytest.mark.slow
@pytest.mark.usefixtures("tab")  # open while the server ends
def test_ctrl_c_ends_it_and_leaves_nothing(running: Server):
    running.process.send_signal(signal.SIGINT)
    _, told = running.process.communicate(timeout=30)
    assert running.process.returncode == 0
    assert told == ""
    assert files(running.tmp) == []
    assert list(running.tmp.glob("ser-page-*")) == []
