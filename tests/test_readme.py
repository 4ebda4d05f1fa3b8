"""The README's commands run, shortened by overrides where they are long."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
BLOCKS = re.findall(r"```bash\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
COMMANDS = [line.split("#")[0].strip() for block in BLOCKS for line in block.splitlines()]
TRAINS = [command for command in COMMANDS if command.startswith("uv run train.py")]
EVALS = [command for command in COMMANDS if command.startswith("uv run eval.py")]


def test_every_command_is_known():
    rest = set(COMMANDS) - set(TRAINS) - set(EVALS)
    assert rest == {"pip install uv", "uv run --group test pytest"}
    assert (REPOSITORY / ".ci" / "run").read_text().splitlines()[-1] == "uv run --group test pytest"


@pytest.mark.parametrize("command", TRAINS)
def test_a_training_command_runs(launch: Callable[..., Path], tmp_path: Path, command: str):
    words = [word for word in shlex.split(command)[3:] if not word.startswith("data.root=")]
    classical = any(word in ("model=svm", "model=logistic") for word in words)
    sweep = "-m" in words
    words = [word.replace("seed=0,1,2", "seed=0,1") for word in words]
    words = [word.replace("model=cnn,svm,logistic", "model=svm,logistic") for word in words]
    words = [word for word in words if not word.startswith(("trainer.max_epochs", "logger="))]
    short = [] if classical or sweep else ["trainer.max_epochs=1"]
    where = [f"hydra.sweep.dir={tmp_path / 'run'}"] if sweep else []
    run = launch("train", *words, "data=demo", *short, *where)
    found = [path.parent for path in run.rglob("metrics.json")]
    assert len(found) == (4 if sweep else 1)
    assert (run / "summary.csv").exists() == sweep


def test_the_evaluation_commands_run(
    launch: Callable[..., Path], demo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    run = launch("train", "data=demo", "model=svm")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recordings").symlink_to(demo / "Actor_01")
    for index, command in enumerate(EVALS):
        words = shlex.split(re.sub(r"outputs/\S+/checkpoints", str(run / "checkpoints"), command))
        scored = launch("eval", *words[3:], folder=str(index), logger="none")
        assert (scored / "predictions.csv").exists()


def test_the_picture_is_there_and_small():
    (picture,) = re.findall(r"!\[.*?\]\((.*?)\)", (REPOSITORY / "README.md").read_text())
    assert 10_000 < (REPOSITORY / picture).stat().st_size < 200_000
