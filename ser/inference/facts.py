"""Facts: what a model was trained on, how well it did, and what it may not be used for."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ser.checkpoints.format import Checkpoint
from ser.config.split_info import SplitInfo
from ser.corpora.scan import CORPORA, is_demo
from ser.evaluation.results import read_metrics
from ser.reporting.run_report import STAMPED

SCORED = "best.ckpt"
"""The checkpoint of a run that its metrics.json is of."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Facts:
    """What one should know of a model before one believes it.

    Attributes:
        title: Of the run and the file, without the folders above.
        trained: On what, a line a corpus.
        protocol: How the speakers were parted.
        stamps: What keeps its score from being that of unknown speakers.
        score: With its interval.
        licences: Of the corpora that it was trained on.
        limits: What its answers are not.
    """

    title: str
    trained: Sequence[str]
    protocol: str
    stamps: Sequence[str]
    score: str
    licences: Sequence[str]
    limits: Sequence[str]


def metrics_of(checkpoint: Checkpoint) -> dict:
    """Return metrics.json of the run that a checkpoint lies in.

    Raises:
        ValueError: It lies in none, or in that of another.
    """
    metrics = read_metrics(checkpoint.path.absolute().parent.parent)
    if SplitInfo.read(metrics) != checkpoint.split_info:
        raise ValueError("the metrics.json of its folder is of another split")
    if list(metrics["classes"]) != list(checkpoint.model.classes):
        raise ValueError("the metrics.json of its folder is of other classes")
    temperature = checkpoint.model.temperature
    fitted = (metrics.get("calibration") or {}).get("temperature")
    if fitted != (temperature and [temperature]):  # of two models these are never the same
        raise ValueError("the metrics.json of its folder is of another model")
    return metrics


def licences(checkpoint: Checkpoint) -> list[str]:
    """Return the licences of the recordings that a checkpoint was trained on, one a corpus."""
    if is_synthetic(checkpoint):
        return ["a synthetic corpus has no licence of others"]
    trained = checkpoint.split.index[checkpoint.split.split != "test"]
    names = sorted({clip.partition("/")[0] for clip in trained})
    return [
        CORPORA[name].licence if name in CORPORA else f"{name}: not known here, ask its owner"
        for name in names
    ]


def is_synthetic(checkpoint: Checkpoint) -> bool:
    """Return whether nobody spoke what a checkpoint was trained on."""
    root = checkpoint.config["data"].get("root")
    return isinstance(root, Mapping) or (isinstance(root, str) and is_demo(Path(root)))


def describe_checkpoint(checkpoint: Checkpoint) -> Facts:
    """Return what a checkpoint says of itself, and the metrics.json of its run of its score."""
    info = checkpoint.split_info
    learned = ("train", "val") if info.refit else ("train",)
    clips = checkpoint.split.index[checkpoint.split.split.isin(learned)]
    by_corpus: dict[str, list[str]] = {}
    for clip in clips:
        corpus, _, name = clip.partition("/")
        by_corpus.setdefault(corpus, []).append(name)
    synthetic = is_synthetic(checkpoint)
    trained = [_describe_corpus(corpus, names) for corpus, names in by_corpus.items()]
    if synthetic:
        trained.append("all of it synthetic, under the names of these corpora: nobody spoke it")
    run = checkpoint.path.resolve().parent.parent
    fold = f", fold {info.fold} of {info.folds}" if info.folds > 1 else ""
    return Facts(
        title=f"{checkpoint.config.get('name', run.parent.name)} · {run.name}/"
        f"{checkpoint.path.name}",
        trained=trained,
        protocol=f"{info.protocol}{fold}",
        stamps=[text for stamp, text in STAMPED.items() if asdict(info)[stamp]],
        score=_describe_score(checkpoint),
        licences=licences(checkpoint),
        limits=_limits(by_corpus, synthetic),
    )


def _describe_corpus(corpus: str, names: Sequence[str]) -> str:
    known = CORPORA.get(corpus)
    clips = [known.from_name(name) for name in names] if known else [None]
    if None in clips:  # of a manifest: the checkpoint does not say who speaks
        return f"{corpus}, {len(names)} clips"
    speakers = len({clip.speaker for clip in clips})
    spoken = f"{speakers} speaker{'s' if speakers > 1 else ''}"
    return f"{known.title}, {len(names)} clips of {spoken}"


def _describe_score(checkpoint: Checkpoint) -> str:
    try:
        metrics = metrics_of(checkpoint)
        score, chance = 100 * metrics["uar"], 100 / len(metrics["classes"])
        bounds = metrics["ci"]["uar"]
        interval = "" if bounds is None else " [{:.1f}, {:.1f}]".format(*(100 * b for b in bounds))
        how = "no interval" if bounds is None else "95 % by speaker"
        of = "" if checkpoint.path.name == SCORED else f", of {SCORED} of this run"
        return (
            f"UAR {score:.1f} %{interval} ({how}; chance {chance:.1f} %) on {int(metrics['n'])}"
            f" {metrics['split']} clips of {len(metrics['speakers'])} speakers{of}"
        )
    except (ValueError, KeyError, TypeError, IndexError) as error:
        log.info("%s has no score for the page: %s", checkpoint.path, error)
        return "not known: the checkpoint is not in the folder of its finished run"


def _limits(corpora: Sequence[str], synthetic: bool) -> list[str]:
    if synthetic:
        return ["Of real speech it knows nothing: its answers to it mean nothing."]
    known = [CORPORA[name] for name in corpora if name in CORPORA]
    limits = [f"{corpus.title}: {corpus.limits}." for corpus in known if corpus.limits]
    limits.append(
        "It knows how a voice sounds, not how somebody feels. Of other languages, ages, rooms and"
        " microphones than in training its score says nothing."
    )
    return limits
