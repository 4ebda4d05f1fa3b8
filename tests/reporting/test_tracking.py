import base64
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import wandb
from wandb.proto import wandb_internal_pb2 as messages

from ser.reporting import wandb as tracking

KEY = "0123456789abcdef" * 3
BLOCK, HEADER, PREAMBLE = 32768, 7, 7


def records(folder: Path) -> Iterator[messages.Record]:
    """Read an offline run: LevelDB's log format behind a preamble of 7 bytes."""
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    content, position, parts = path.read_bytes(), PREAMBLE, b""
    while position + HEADER <= len(content):
        left = BLOCK - position % BLOCK
        if left < HEADER:
            position += left
            continue
        length = int.from_bytes(content[position + 4 : position + 6], "little")
        kind = content[position + 6]  # 1 whole, 2 first, 3 middle, 4 last part
        position += HEADER
        parts += content[position : position + length]
        position += length
        if kind in (1, 4):
            yield messages.Record.FromString(parts)
            parts = b""


def name_of(item: object) -> str:
    return item.key or "/".join(item.nested_key)


def content(folder: Path) -> tuple[dict, dict, list[int], messages.RunRecord]:
    """Give what an offline run logged, its config, exit codes and facts."""
    logged, config, exits, run = {}, {}, [], None
    for record in records(folder):
        match record.WhichOneof("record_type"):
            case "history":
                logged |= {
                    name_of(item): json.loads(item.value_json) for item in record.history.item
                }
            case "config":
                config |= {
                    name_of(item): json.loads(item.value_json) for item in record.config.update
                }
            case "exit":
                exits.append(record.exit.exit_code)
            case "run":
                run = record.run
    return logged, config, exits, run


def test_an_offline_run_holds_scores_config_and_pictures(
    launch: Callable[..., Path],
    small: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
):
    for variable in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NETRC", os.devnull)
    folder = launch("train", *small, "trainer.max_epochs=1", logger="wandb")
    assert "wandb sync" in capfd.readouterr().err
    assert wandb.run is None
    metrics = json.loads((folder / "metrics.json").read_text())
    logged, config, exits, run = content(folder)
    assert (run.project, run.job_type) == ("ser", "train")
    assert logged["test/uar"] == pytest.approx(metrics["uar"])
    for name, row in metrics["per_class"].items():
        assert logged[f"test/f1/{name}"] == pytest.approx(row["f1"])
        assert f"val/f1/{name}" in logged
    assert {"train/loss", "val/uar", "train/lr"} <= set(logged)
    assert logged["test/confusion_matrix/_type"].startswith("image"), sorted(logged)
    assert logged["test/wrong/_type"].startswith("table")
    (table,) = (record.artifact for record in records(folder) if record.HasField("artifact"))
    heard = [entry for entry in table.manifest.contents if entry.path.startswith("media/audio/")]
    assert len(heard) == tracking.AUDIBLE
    assert all(Path(entry.local_path).is_relative_to(folder.resolve()) for entry in heard)
    assert all(Path(entry.local_path).stat().st_size == entry.size for entry in heard)
    assert config["model"]["_target_"] == "ser.training.classifier.EmotionClassifier"
    assert config["seed"] == 0
    assert exits == [0]


def test_without_players_no_recording_is_logged(
    launch: Callable[..., Path], svm_run: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    ckpt = svm_run / "checkpoints" / "best.ckpt"
    folder = launch("eval", f"ckpt={ckpt}", "players=false", logger="wandb")
    (table,) = (record.artifact for record in records(folder) if record.HasField("artifact"))
    paths = [entry.path for entry in table.manifest.contents]
    assert "test/wrong.table.json" in paths
    assert not [path for path in paths if path.startswith("media/audio/")]


@pytest.mark.slow
def test_the_folds_of_a_leaky_cross_validation_are_one_group_of_runs_that_say_so(
    launch: Callable[..., Path], small: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    overrides = [*small, "model=svm", "protocol=random", "protocol.folds=2", "fold=all"]
    folder = launch("train", "data=demo", *overrides, logger="wandb")
    groups = set()
    for fold, part in ((0, "fold_0"), (1, "fold_1"), ("all", "")):
        logged, config, exits, run = content(folder / part)
        metrics = json.loads((folder / part / "metrics.json").read_text())
        assert run.display_name == f"default/{part}".rstrip("/")
        assert logged["leaky-test/uar"] == pytest.approx(metrics["uar"])
        own = {key for key in logged if not key.startswith(("_", "trainer/"))}
        assert own
        assert all(key.startswith("leaky-") for key in own), own
        assert config["fold"] == fold
        assert config["stamps"]["leaky"]
        assert exits == [0]
        assert "leaky" in run.tags
        groups.add(run.run_group)
    (group,) = groups
    assert group.endswith(folder.name)


def test_tensorboard_gets_the_scores(launch: Callable[..., Path], small: list[str]):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = launch("train", *small, "model=logistic", logger="tensorboard")
    written = events.EventAccumulator(str(folder / "tensorboard"))
    written.Reload()
    metrics = json.loads((folder / "metrics.json").read_text())
    (point,) = written.Scalars("test/uar")
    assert point.value == pytest.approx(metrics["uar"])


@pytest.mark.slow
def test_the_jobs_of_a_sweep_are_one_group(
    launch: Callable[..., Path], small: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    sweep = tmp_path / "name" / "time"
    overrides = [*small, "model=logistic", "data.drop=[],[sat]"]
    overrides += ["protocol=kfold", "protocol.folds=2", "fold=all"]
    with pytest.raises(SystemExit):
        launch("train", "-m", f"hydra.sweep.dir={sweep}", *overrides, logger="wandb")
    for part in ("0", "0/fold_0", "0/fold_1"):
        *_, run = content(sweep / part)
        assert (run.run_group, run.display_name) == ("name/time", f"default/{part}")
    assert not (sweep / "1" / "wandb").exists()  # it failed before it had anything to log


class Account(BaseHTTPRequestHandler):
    """A W&B server that knows one key."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        known = KEY in base64.b64decode(self.headers["Authorization"].split()[-1]).decode()
        body = b'{"data": {"viewer": {"id": "1", "entity": "e"}}}' if known else b"{}"
        self.send_response(200 if known else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Say nothing of a client that has not waited for the answer."""


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """Address of a W&B server, for a user without key or mode."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server(("127.0.0.1", 0), Account) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        yield os.environ["WANDB_BASE_URL"]
        server.shutdown()


def test_a_login_of_today_is_found_and_nobody_is_asked_for_one(
    account: str, monkeypatch: pytest.MonkeyPatch
):
    assert tracking._mode() == "offline"
    wandb.login(key=KEY, host=account, verify=False)  # as `wandb login` writes it
    wandb.teardown()
    assert tracking._mode() == "online"
    wandb.teardown()
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert tracking._mode() == "offline"


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"WANDB_MODE": "foo"}, r"mode='foo'.* should be 'online', 'offline'"),
        ({"WANDB_BASE_URL": "foo"}, "base_url='foo'.* should be a valid URL"),
        ({"WANDB_API_KEY": "0123"}, "must have 40"),
        ({"WANDB_API_KEY": KEY[::-1]}, "401"),
        ({"WANDB_MODE": "online"}, "knows no API key"),
        ({"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "http://127.0.0.1:9"}, "http://127.0.0.1:9"),
    ],
)
def test_what_wandb_refuses_is_one_line_before_any_data_are_read(
    variables: dict[str, str],
    line: str,
    account: str,
    monkeypatch: pytest.MonkeyPatch,
    launch: Callable[..., Path],
    capfd: pytest.CaptureFixture,
    tmp_path: Path,
):
    for name, value in {"WANDB_HTTP_TIMEOUT": "1", **variables}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match="1"):
        launch("train", "data.root=/nowhere", logger="wandb")
    (said,) = capfd.readouterr().err.splitlines()
    assert re.search(line, said)
    assert said.endswith("log in with `wandb login`, or set WANDB_MODE=offline or logger=csv")
    assert json.loads((tmp_path / "run" / "status.json").read_text())["error"] == said


def test_a_failed_job_ends_its_run_as_failed_and_frees_the_next(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    for job, failing in enumerate([True, False]):
        folder = tmp_path / str(job)
        folder.mkdir()
        with suppress(RuntimeError), tracking.finish_wandb():
            logger = tracking.wandb_logger(str(folder), project="ser")
            logger.log_metrics({"job": job})
            if failing:
                raise RuntimeError("boom")
        exits = [r.exit.exit_code for r in records(folder) if r.HasField("exit")]
        assert exits == [int(failing)]


@pytest.mark.slow
def test_neither_prompt_nor_network_without_an_account(tmp_path: Path):
    """A child with no terminal, no key, and sockets that refuse any host but this machine."""
    guard = tmp_path / "sitecustomize.py"
    guard.write_text(
        "import os, socket\n"
        "connect = socket.socket.connect\n"
        "def refuse(host, *_, **__):\n"
        "    os.write(2, f'network call to {host}'.encode())\n"  # a thread's error is not seen
        "    raise OSError(host)\n"
        "def guarded(self, address):\n"
        "    if self.family != socket.AF_UNIX and address[0] not in ('127.0.0.1', '::1'):\n"
        "        refuse(address)\n"
        "    return connect(self, address)\n"
        "socket.socket.connect = guarded\n"
        "socket.getaddrinfo = socket.gethostbyname = socket.gethostbyaddr = refuse\n"
    )
    script = (
        "from ser.reporting import wandb as tracking\n"
        "with tracking.finish_wandb():\n"
        f"    tracking.wandb_logger({str(tmp_path)!r}, project='ser').log_metrics({{'a': 1}})\n"
    )
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("WANDB_")
    }
    environment |= {"NETRC": os.devnull, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "network call" not in done.stderr
    assert list(tmp_path.glob("wandb/offline-run-*"))
