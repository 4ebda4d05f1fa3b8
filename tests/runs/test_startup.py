"""What a start imports, and when."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
LATER = {"matplotlib", "optuna", "skops", "sklearn", "wandb"}
"""Imported in the functions that call them, as only some runs do, or only at their end."""

WATCHED = """
import json, runpy, sys
import lightning  # whose torchmetrics imports matplotlib
imported = []
sys.addaudithook(lambda event, facts: imported.append(facts[0]) if event == "import" else None)
import ser.experiment
known = len(imported)
runpy.run_path("train.py", run_name="__main__")
print(json.dumps([imported[:known], imported[: imported.index("ser.reporting.plots")]]))
"""


@pytest.mark.slow
def test_a_library_is_imported_where_it_is_called(tmp_path: Path, cache: Path, small: list[str]):
    run = ["logger=csv", "model=cnn", "trainer.max_epochs=1", f"hydra.run.dir={tmp_path / 'run'}"]
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *small, *run, f"cache.dir={cache}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    at_first, until_report = (
        {name.partition(".")[0] for name in names}
        for names in json.loads(done.stdout.splitlines()[-1])
    )
    assert "pandas" in at_first
    assert not at_first & LATER
    assert not until_report & (LATER - {"sklearn"})
