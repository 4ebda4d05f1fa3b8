"""sweep.yaml, whose trials W&B's agent starts."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from ser.evaluation.status import read_status

REPOSITORY = Path(__file__).parents[2]
SWEEP = yaml.safe_load((REPOSITORY / "sweep.yaml").read_text())


def drawn(end: int) -> dict[str, dict[str, object]]:
    """Return the first or the last value of each parameter, as the server tells the agent."""
    return {
        key: {"value": [*facts.get("values", (facts.get("min"), facts.get("max")))][end]}
        for key, facts in SWEEP["parameters"].items()
    }


def command(end: int) -> list[str]:
    """Return what the agent runs for these values."""
    given = create_sweep_command_args({"args": drawn(end)}) | {"program": [SWEEP["program"]]}
    # As the agent does, which has no function for it.
    return [
        word
        for chunk in create_sweep_command([*SWEEP["command"]])
        for word in (given[chunk[2:-1]] if chunk.startswith("${") else [chunk])
    ]


@pytest.mark.parametrize("end", [0, -1])
def test_the_agents_words_compose(end: int):
    *run, script, lr, dropout, augment = command(end)
    assert (run, script) == (["uv", "run"], "train.py")
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        cfg = compose("train", [lr, dropout, augment])
    assert cfg.model.optimizer.lr == (1e-4, 1e-2)[end]
    assert cfg.model.network.dropout == (0.2, 0.5)[end]
    assert augment == ("augment=specaugment", "augment=none")[end]
    assert cfg.logger.wandb.project == SWEEP["project"]


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_cross_validation_is_one_trial(
    launch: Callable[..., Path],
    small: list[str],
    monkeypatch: pytest.MonkeyPatch,
    jobs: int,
):
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    monkeypatch.setenv("WANDB_RUN_ID", "trial1")
    words = ["model=svm", "protocol=kfold", "protocol.folds=2", "fold=all", f"jobs={jobs}"]
    run = launch("train", *words, *small, logger="wandb")
    assert [path.parent.parent for path in run.rglob("*-trial1/*.wandb")] == [run / "wandb"]


@pytest.mark.slow
# W&B leaves the file of the drawn values open.
@pytest.mark.filterwarnings("ignore:.*drawn.yaml:pytest.PytestUnraisableExceptionWarning")
def test_a_trial_runs(
    launch: Callable[..., Path],
    small: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    # As the agent starts it: W&B locks the drawn keys in the run's config.
    (tmp_path / "drawn.yaml").write_text(yaml.safe_dump({"wandb_version": 1} | drawn(0)))
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    monkeypatch.setenv("WANDB_RUN_ID", "trial1")
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(tmp_path / "drawn.yaml"))
    run = launch("train", *command(0)[3:], *small, "trainer.max_epochs=1", logger="wandb")
    (record,) = run.glob("wandb/offline-run-*-trial1/*.wandb")
    assert b"sweep1" in record.read_bytes()
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))  # as the agent's server is told
    assert "val/uar" in rows[-1]
    name = SWEEP["metric"]["name"]
    assert float(rows[-1][name]) == pytest.approx(read_status(run)["objective"])
