"""State of a run folder: how its run ended (status.json), and which files a start would replace."""

import json
import re
from contextlib import suppress
from pathlib import Path

from omegaconf import OmegaConf

RESULTS = ("predictions.csv", "metrics.json")
KEPT = ("checkpoints/last.ckpt", "checkpoints/best.ckpt", *RESULTS)
"""Files of a run that another start in its folder would replace."""
RECORD, NEXT_RECORD = ".hydra", ".hydra.next"
"""Where Hydra writes what a run was started with; until a run that is there already is replaced."""
PART = re.compile(r"(fold_|candidate_|member_)?\d+")
"""Names of the folders of runs within a run, and of jobs."""


def held_run(folder: Path) -> str | None:
    """Describe the run that a folder holds; None where another start would remove nothing."""
    found = [name for name in KEPT if (folder / name).exists()]
    found += [part.name for part in held_parts(folder)]
    if not found:
        return None
    state = "an unfinished"
    with suppress(ValueError):
        named = {"finished": "a finished", "interrupted": "an interrupted", "failed": "a failed"}
        state = named.get((read_status(folder) or {}).get("status"), state)
    return f"{state} run ({', '.join(found)})"


def held_parts(folder: Path) -> list[Path]:
    """List the folders below that of a run that hold one: of a fold, candidate, member or job."""
    found = [path.parent for path in folder.glob("*/status.json")]
    return sorted(part for part in found if PART.fullmatch(part.name) and held_run(part))


def read_status(folder: Path) -> dict | None:
    """Read status.json of a run; None where there is none.

    Raises:
        ValueError: It is damaged.
    """
    path = folder / "status.json"
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
        _ = content["status"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): run it again") from error
    return {"error": None, "objective": None, "overrides": None} | content


def recorded_data(folder: Path) -> dict:
    """Return the key `data` of a run's recorded config, not resolved; empty where there is none.

    What eval.py was not given is from the run of its checkpoint.
    """
    path = folder / ".hydra" / "config.yaml"
    if not path.is_file():
        return {}
    config = OmegaConf.to_container(OmegaConf.load(path))
    data = {key: value for key, value in (config.get("data") or {}).items() if value is not None}
    if (ckpt := config.get("ckpt")) is not None:
        return recorded_data(Path(str(ckpt)).expanduser().parent.parent) | data
    return data


def check_finished(folder: Path) -> None:
    """Refuse to read the results of a run that has not finished.

    Raises:
        ValueError: It failed, was interrupted or is running.
    """
    status = read_status(folder)
    # The folder of a multirun whose folds were pooled has no status of its own.
    if status is not None and status["status"] != "finished":
        reason = f" ({status['error']})" if status["error"] else ""
        raise ValueError(
            f"{folder} is {status['status']}{reason}: expected finished runs; run it again first"
        )
