"""Tell runs apart on the clips they share: `python -m ser.compare a=<run folder> b=<another>`."""

import csv
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import hydra
import numpy as np
from omegaconf import DictConfig, OmegaConf
from rich import box
from rich.console import Console
from rich.table import Table

from ser.evaluation.status import check_finished, recorded_data

log = logging.getLogger(__name__)

CLIP = ("corpus", "speaker", "channel", "emotion", "intensity", "statement", "repetition")
"""What tells a clip from all others, wherever its file lies and in whatever container."""
COLUMNS = (
    "run", "score", "a", "b", "difference", "low", "high", "p", "p_holm", "smallest", "n",
    "speakers", "leaky_a", "leaky_b",
)  # fmt: skip
STAMPS = ("protocol", "fold", "leaky", "transductive")


@hydra.main(version_base="1.3", config_path="../conf", config_name="compare")
def main(cfg: DictConfig) -> None:
    """Compose the config and compare one run with one or several."""
    # Imported here, so that --help answers at once.
    from ser.launch.run import Run, one_line_errors

    with one_line_errors(), Run(cfg.folder) as run:
        if cfg.a is None or cfg.b in (None, []):
            raise ValueError(
                f"a={cfg.a} b={cfg.b}: expected run folders, such as a=outputs/default/<time>"
                " b=outputs/svm/<time>, or several as b='[<run>,<run>]'"
            )
        a, *others = (
            Path(str(path)).expanduser()
            for path in (cfg.a, *(cfg.b if OmegaConf.is_list(cfg.b) else [cfg.b]))
        )
        pairs = compare_several(a, others)
        write(run.folder, pairs)
        show(run.folder, pairs)


def compare_several(a: Path, others: Sequence[Path]) -> list[dict]:
    """Compare one run with each of the others; `p_holm` allows for how many they are."""
    from ser.evaluation.statistics import SCORES, holm

    pairs = [compare(a, b) for b in others]
    for score in SCORES:
        adjusted = holm([pair["scores"][score]["p"] for pair in pairs])
        for pair, p in zip(pairs, adjusted, strict=True):
            pair["scores"][score]["p_holm"] = p
    return pairs


def compare(a: Path, b: Path) -> dict:
    """Compare two runs on the clips they share, and warn of what makes that unfair.

    Args:
        a: Folder with the predictions.csv and metrics.json of a run.
        b: Another.

    Returns:
        `a` and `b` (folder, protocol, fold, leaky, transductive, left_out clips), `n` clips,
        `speakers`, the `lowest_p` they allow, `ci_method`, and `scores` of `paired_difference`.

    Raises:
        ValueError: A folder lacks a file, no clip is shared, or one has two labels.
    """
    from ser.evaluation.statistics import METHOD, lowest_p, paired_difference

    (clips_a, metrics_a), (clips_b, metrics_b) = _read(a), _read(b)
    shared = [clip for clip in clips_a if clip in clips_b]
    if not shared:
        raise ValueError(f"{a} and {b} share no clip: expected runs that scored the same speakers")
    left_a, left_b = len(clips_a) - len(shared), len(clips_b) - len(shared)
    if left_a or left_b:
        log.warning("not in both runs, left out: %d clips of %s, %d of %s", left_a, a, left_b, b)
    differing = set(metrics_a["classes"]) ^ set(metrics_b["classes"])
    if differing:
        log.warning(
            "only one of the runs knows %s: the one with more classes has the harder choice",
            ", ".join(sorted(differing)),
        )

    def column(clips: Mapping, name: str) -> np.ndarray:
        return np.array([clips[clip][name] for clip in shared])

    truth, label = column(clips_a, "label"), column(clips_b, "label")
    if np.any(truth != label):
        first = np.argmax(truth != label)
        raise ValueError(
            f"{' '.join(shared[first])} is {truth[first]} in {a} and {label[first]} in {b}:"
            " expected one label a clip; compare runs of the same classes"
        )
    rates = {recorded_data(run).get("sample_rate") for run in (a, b)} - {None}
    # What is recorded is of samples at that rate: at two, all differ.
    alike = shared if len(rates) < 2 else []
    heard = [(clips_a[clip].get("sha256"), clips_b[clip].get("sha256")) for clip in alike]
    if altered := sum(one != other for one, other in heard):
        log.warning(
            "%d clips sound different in the runs: what differs may be the data, not the model",
            altered,
        )
    speakers = column(clips_a, "speaker")
    names = np.unique(speakers).tolist()
    return {
        "a": _origin(a, metrics_a, left_a),
        "b": _origin(b, metrics_b, left_b),
        "n": len(shared),
        "speakers": names,
        "lowest_p": lowest_p(len(names)),
        "ci_method": METHOD,
        "scores": paired_difference(
            truth, column(clips_a, "prediction"), column(clips_b, "prediction"), speakers
        ),
    }


def _read(folder: Path) -> tuple[dict[tuple[str, ...], dict[str, str]], dict]:
    """Read the rows of predictions.csv by clip, all of them text, and metrics.json."""
    check_finished(folder)
    for name in ("predictions.csv", "metrics.json"):
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder} holds no {name}: expected the folder of a run that scored clips of known"
                " emotion, such as outputs/default/<time>"
            )
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or any(None in row.values() for row in rows):
        raise ValueError(
            f"{folder / 'predictions.csv'} is empty or has a row that is cut short: expected a row"
            " a clip; run it again"
        )
    missing = [name for name in (*CLIP, "label", "prediction") if name not in rows[0]]
    if missing:
        raise ValueError(
            f"{folder / 'predictions.csv'} has no column {missing[0]!r}: expected the columns that"
            " train.py and eval.py write"
        )
    clips = {_clip(row): row for row in rows}
    if len(clips) < len(rows):
        raise ValueError(
            f"{folder / 'predictions.csv'} has {len(rows)} rows of {len(clips)} clips: expected one"
            " row a clip"
        )
    try:
        metrics = json.loads((folder / "metrics.json").read_text())
        _ = [metrics[key] for key in (*STAMPS, "classes")]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{folder / 'metrics.json'} is damaged ({error}); run it again") from error
    return clips, metrics


def _clip(row: Mapping) -> tuple[str, ...]:
    # Of a take there may be the recording and the video.
    return (*(row[column] for column in CLIP), row.get("modality", "audio"))


def _origin(folder: Path, metrics: Mapping, left_out: int) -> dict:
    stamps = {key: metrics[key] for key in STAMPS}
    return {"folder": str(folder)} | stamps | {"left_out": left_out}


def write(folder: Path, pairs: Sequence[Mapping]) -> None:
    """Write comparison.json, and comparison.csv with a row for each other run and score."""
    (folder / "comparison.json").write_text(json.dumps(pairs, indent=2) + "\n")
    with (folder / "comparison.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        for pair in pairs:
            facts = {"run": pair["b"]["folder"], "n": pair["n"], "speakers": len(pair["speakers"])}
            facts |= {f"leaky_{run}": pair[run]["leaky"] for run in ("a", "b")}
            for score, values in pair["scores"].items():
                low, high = values["interval"] or (None, None)
                writer.writerow(facts | values | {"score": score, "low": low, "high": high})


def show(folder: Path, pairs: Sequence[Mapping]) -> None:
    """Print a table for each other run, what no such table can show, and where the rows lie."""
    console = Console(markup=False)  # a path may hold brackets
    for pair in pairs:
        for run in ("a", "b"):
            console.print(
                f"{run}: {pair[run]['folder']}, protocol {pair[run]['protocol']}", soft_wrap=True
            )
        console.print(_table(pair, several=len(pairs) > 1))
        speakers = f"{len(pair['speakers'])} speakers"
        if pair["lowest_p"] > 0.05:
            limit = f"no p below {pair['lowest_p']:.4g} is possible with so few"
        else:
            limit = "smallest: the difference they would show 4 times in 5"
        console.print(f"{pair['n']} clips of {speakers}; {limit}")
    console.print(f"comparison.csv and comparison.json are in {folder}", soft_wrap=True)


def _table(pair: Mapping, several: bool) -> Table:
    stamps = [
        f"{run} is {stamp}"
        for run in ("a", "b")
        for stamp in ("leaky", "transductive")
        if pair[run][stamp]
    ]
    headers = ["score", "a", "b", "a - b", "95 % by speaker", "p", "Holm p", "smallest"]
    if not several:
        headers.remove("Holm p")
    table = Table(*headers, title=", ".join(stamps), box=box.SIMPLE_HEAD, collapse_padding=True)
    for score, values in pair["scores"].items():
        interval, smallest = values["interval"], values["smallest"]
        table.add_row(
            score,
            f"{values['a']:.3f}",
            f"{values['b']:.3f}",
            f"{values['difference']:+.3f}",
            f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else values["unknown"],
            f"{values['p']:.4f}",
            *([f"{values['p_holm']:.4f}"] if several else []),
            f"{smallest:.3f}" if smallest is not None else "",
        )
    return table


if __name__ == "__main__":
    main()
