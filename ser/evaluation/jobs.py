"""Jobs of a multirun as rows: what varied, how each ended, what it scored."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import OmegaConf

from ser.config.split_info import STAMPS
from ser.evaluation.status import read_status, recorded_data

SCORES = ("accuracy", "uar", "macro_f1")
OUTCOME = (
    "status", "error", "validation", *STAMPS,
    *(f"{score}{end}" for score in SCORES for end in ("", "_low", "_high")),
    "classes", "emotion_uar",
)  # fmt: skip
"""Keys of a row beside what varied; `emotion_uar` is by emotion alone, whatever the classes."""


def collect(folder: Path) -> list[dict[str, object]]:
    """Return a row for each job of a multirun: its number, what varied, status, error and scores.

    Raises:
        ValueError: A file of a job is damaged.
    """
    jobs = sorted(folder.glob("*/.hydra/overrides.yaml"), key=lambda path: _number(path))
    overrides = [
        dict(text.split("=", 1) for text in OmegaConf.load(path) if "=" in text) for path in jobs
    ]
    given = {key for job in overrides for key in job}
    keys = sorted(key for key in given if len({job.get(key) for job in overrides}) > 1)
    return [
        {"job": _number(path)} | {key: job.get(key, "") for key in keys} | _outcome(path.parents[1])
        for path, job in zip(jobs, overrides, strict=True)
    ]


def varied(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """List the keys that the jobs differ in."""
    return [key for key in rows[0] if key not in ("job", *OUTCOME)] if rows else []


def _number(path: Path) -> int:
    name = path.parents[1].name
    return int(name) if name.isdigit() else -1


def _outcome(job: Path) -> dict[str, object]:
    outcome = dict.fromkeys(OUTCOME) | {"status": "missing"}
    if status := read_status(job):
        outcome |= {key: status[key] for key in ("status", "error")}
        outcome["validation"] = status["objective"]
    # Of a job that did not finish, metrics.json would be an earlier start's; of `input=` none is.
    if outcome["status"] == "finished" and (job / "metrics.json").is_file():
        from ser.evaluation.results import read_metrics  # with pandas, which no start may wait for

        metrics = read_metrics(job)
        outcome |= {key: metrics[key] for key in STAMPS}
        for score in SCORES:
            low, high = metrics["ci"][score] or (None, None)
            outcome |= {score: metrics[score], f"{score}_low": low, f"{score}_high": high}
        outcome["classes"] = len(metrics["classes"])
        outcome["emotion_uar"] = metrics.get("emotion", metrics)["uar"]
    return outcome


def altered_clips(folder: Path, rows: Sequence[Mapping[str, object]]) -> list[str]:
    """List the clips whose samples differ between finished jobs: the data changed under way.

    Only jobs of one root and sample rate are compared, as the samples are of these.
    """
    from ser.evaluation.results import read_clips  # with pandas, which no start should wait for

    heard = {}
    for row in rows:
        path = folder / str(row["job"]) / "split.csv"
        if row["status"] == "finished" and path.is_file():  # recordings of `input=` have no split
            data = recorded_data(path.parent)
            source = str([data.get(key) for key in ("root", "manifest", "sample_rate")])
            for clip, digest in read_clips(path).sha256.items():
                heard.setdefault((clip, source), set()).add(digest)
    return sorted({clip for (clip, _), digests in heard.items() if len(digests) > 1})
