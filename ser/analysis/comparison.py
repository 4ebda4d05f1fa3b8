"""Comparison of two runs on the clips that they share, with paired tests by speaker."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from ser.config.split_info import STAMPS
from ser.evaluation.results import RunResult
from ser.evaluation.statistics import (
    METHOD,
    SCORES,
    holm,
    lowest_p,
    paired_difference,
    speakers_of,
)
from ser.evaluation.status import recorded_data

log = logging.getLogger(__name__)

COLUMNS = (
    "run", "score", "corpus", "a", "b", "difference", "low", "high", "p", "p_holm",
    "minimum_detectable", "n", "speakers", *(f"{stamp}_{run}" for stamp in STAMPS for run in "ab"),
)  # fmt: skip


def compare_several(a: RunResult, others: Sequence[RunResult]) -> list[dict]:
    """Compare one run with each of the others; `p_holm` allows for how many they are."""
    pairs = [compare(a, b) for b in others]
    for score in SCORES:
        adjusted = holm([pair["scores"][score]["p"] for pair in pairs])
        for pair, p in zip(pairs, adjusted, strict=True):
            pair["scores"][score]["p_holm"] = p
    return pairs


def compare(a: RunResult, b: RunResult) -> dict:
    """Compare two runs on the clips they share, and warn of what makes that unfair.

    Returns:
        `a` and `b` (folder, protocol, fold, leaky, transductive, left_out clips), `n` clips,
        `speakers`, the `lowest_p` they allow, `ci_method`, and `scores` of `paired_difference`;
        with clips of several corpora also `corpora`, the scores of each.

    Raises:
        ValueError: No clip is shared, or one has two labels.
    """
    shared = [clip for clip in a.predictions.index if clip in b.predictions.index]
    if not shared:
        raise ValueError(
            f"{a.folder} and {b.folder} share no clip: expected runs that scored the same speakers"
        )
    left_a, left_b = (len(run.predictions) - len(shared) for run in (a, b))
    if left_a or left_b:
        log.warning(
            "not in both runs, left out: %d clips of %s, %d of %s",
            left_a,
            a.folder,
            left_b,
            b.folder,
        )
    if differing := set(a.metrics["classes"]) ^ set(b.metrics["classes"]):
        log.warning(
            "only one of the runs knows %s: the one with more classes has the harder choice",
            ", ".join(sorted(differing)),
        )
    of_a, of_b = (run.predictions.loc[shared] for run in (a, b))
    if clips := of_a.index[of_a.label != of_b.label].to_list():
        raise ValueError(
            f"{clips[0]} is {of_a.label[clips[0]]} in {a.folder} and {of_b.label[clips[0]]} in"
            f" {b.folder}: expected one label a clip; compare runs of the same classes"
        )
    rates = {recorded_data(run.folder).get("sample_rate") for run in (a, b)} - {None}
    altered = int((of_a.sha256 != of_b.sha256).sum())
    if altered and len(rates) < 2:  # digests are of samples at a rate: at two, all differ
        log.warning(
            "%d clips sound different in the runs: what differs may be the data, not the model",
            altered,
        )
    speakers = speakers_of(of_a)
    names = np.unique(speakers).tolist()
    columns = [each.to_numpy(str) for each in (of_a.label, of_a.prediction, of_b.prediction)]
    corpora = np.unique(of_a.corpus.to_numpy(str))
    parts = {name: (of_a.corpus == name).to_numpy() for name in corpora if len(corpora) > 1}
    return {
        "a": _origin(a, left_a),
        "b": _origin(b, left_b),
        "n": len(shared),
        "speakers": names,
        "lowest_p": lowest_p(len(names)),
        "ci_method": METHOD,
        "scores": paired_difference(*columns, speakers),
        "corpora": {
            name: paired_difference(*(column[own] for column in columns), speakers[own])
            for name, own in parts.items()
        },
    }


def _origin(run: RunResult, left_out: int) -> dict:
    said = {key: getattr(run.split_info, key) for key in ("protocol", "fold", *STAMPS)}
    return {"folder": str(run.folder)} | said | {"left_out": left_out}


def write_comparison(folder: Path, pairs: Sequence[Mapping]) -> None:
    """Write comparison.json, and comparison.csv with a row for each other run and score."""
    (folder / "comparison.json").write_text(json.dumps(pairs, indent=2) + "\n")
    rows = []
    for pair in pairs:
        facts = {"run": pair["b"]["folder"], "n": pair["n"], "speakers": len(pair["speakers"])}
        facts |= {f"{stamp}_{run}": pair[run][stamp] for stamp in STAMPS for run in "ab"}
        for corpus, scores in ({"": pair["scores"]} | pair["corpora"]).items():
            for score, values in scores.items():
                low, high = values["interval"] or (None, None)
                named = {"score": score, "corpus": corpus, "low": low, "high": high}
                rows.append(facts | values | named)
    table = pd.DataFrame(rows, columns=COLUMNS, dtype=object)
    table.to_csv(folder / "comparison.csv", index=False, lineterminator="\r\n")


def show_comparison(folder: Path, pairs: Sequence[Mapping]) -> None:
    """Print a table for each other run, the lowest p that is possible, and where the rows lie."""
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
            limit = "minimum detectable: the difference they would show 4 times in 5"
        console.print(f"{pair['n']} clips of {speakers}; {limit}")
    console.print(f"comparison.csv and comparison.json are in {folder}", soft_wrap=True)


def _table(pair: Mapping, several: bool) -> Table:
    stamps = [f"{run} is {stamp}" for run in ("a", "b") for stamp in STAMPS if pair[run][stamp]]
    headers = ["score", "a", "b", "a - b", "95 % by speaker", "p", "Holm p", "detectable"]
    if not several:
        headers.remove("Holm p")
    table = Table(*headers, title=", ".join(stamps), box=box.SIMPLE_HEAD, collapse_padding=True)
    named = pair["scores"] | {f"uar, {name}": each["uar"] for name, each in pair["corpora"].items()}
    for score, values in named.items():
        interval, detectable = values["interval"], values["minimum_detectable"]
        cells = [score, f"{values['a']:.3f}", f"{values['b']:.3f}", f"{values['difference']:+.3f}"]
        cells.append(f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else values["unknown"])
        adjusted = (values.get("p_holm"),) if several else ()  # of the whole alone
        cells += ["" if p is None else f"{p:.4f}" for p in (values["p"], *adjusted)]
        table.add_row(*cells, f"{detectable:.3f}" if detectable is not None else "")
    return table
