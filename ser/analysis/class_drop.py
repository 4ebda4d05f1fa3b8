"""Effect of dropping a class on the others: that of the smaller choice and of training apart."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Column, Table

from ser.config.split_info import STAMPS
from ser.evaluation.jobs import varied
from ser.evaluation.metrics import marginalise_gender, per_class, scores
from ser.evaluation.results import RunResult
from ser.evaluation.statistics import METHOD, holm, lowest_p, paired_difference, speakers_of
from ser.reporting import plots
from ser.reporting.html import embed_picture, render_page

DIFFERENCES = {
    "masked - full": ("masked", "full"),
    "retrained - masked": ("retrained", "masked"),
    "retrained - full": ("retrained", "full"),
}
SCORES = {"uar": "UAR", "macro_f1": "macro F1"}


def collect_findings(
    folder: Path, jobs: Sequence[Mapping[str, object]], base: Sequence[str] = ()
) -> tuple[list[dict[str, object]], list[str]]:
    """Return a finding for each job without a class and the full job that differs in that alone.

    Classes of emotion and gender are folded to emotions: what is dropped is one of these. A
    finding is that of `compare_models` with the `setting` (what else varied), `dropped`, `leaky`,
    `transductive` and a `sentence`. Its differences have `p_holm` over the classes of a setting,
    which cannot be below `lowest_p`.

    Args:
        folder: Of the multirun.
        jobs: Rows of its summary.
        base: What the full model lacks already.

    Returns:
        The findings, and a line for each class or setting that has none.
    """
    settings = defaultdict(list)
    others = [key for key in varied(jobs) if key != "data.drop"]
    for job in jobs:
        settings[tuple((key, job[key]) for key in others)].append(job)
    findings, left_out = [], []
    for setting, of_setting in settings.items():
        found, lines = _of_setting(folder, of_setting, frozenset(base))
        for finding in found:
            finding = {"setting": dict(setting), **finding}
            findings.append(finding | {"sentence": _sentence(finding)})
        label = "".join(f"{key}={value}: " for key, value in setting)
        left_out += [label + line for line in lines]
    return findings, left_out


def _of_setting(
    folder: Path, jobs: Sequence[Mapping], base: frozenset[str]
) -> tuple[list[dict], list[str]]:
    drops = [frozenset(str(job.get("data.drop", "")).strip("[]").split(",")) - {""} for job in jobs]
    full = dict(zip(drops, jobs, strict=True)).get(base)
    if full is None or full["status"] != "finished":
        state = "is missing" if full is None else f"(job {full['job']}) is {full['status']}"
        return [], [f"nothing to compare with: the full model {state}"]
    of_full = _read(folder, full)
    findings, left_out = [], []
    for drop, job in zip(drops, jobs, strict=True):
        for dropped in drop - base:
            try:
                if job["status"] != "finished":
                    raise ValueError(f"job {job['job']} is {job['status']}")
                finding = compare_models(of_full, _read(folder, job), dropped)
            except ValueError as error:
                left_out.append(f"{dropped} is left out: {error}")
                continue
            stamps = {stamp: bool(full[stamp] or job[stamp]) for stamp in STAMPS}
            findings.append({"dropped": dropped, **finding, **stamps})
    for pair, score in product(DIFFERENCES, SCORES):
        found = [finding["differences"][pair][score] for finding in findings]
        for row, p in zip(found, holm([row["p"] for row in found]), strict=True):
            row["p_holm"] = p
    for finding in findings:
        finding["lowest_p"] = min(1.0, len(findings) * lowest_p(len(finding["speakers"])))
    return findings, left_out


def _read(folder: Path, job: Mapping) -> pd.DataFrame:
    run = RunResult.read(folder / str(job["job"]))
    folded = marginalise_gender(run.predictions, run.metrics["classes"])
    return run.predictions if folded is None else folded[0]


def _sentence(finding: Mapping) -> str:
    """Return a sentence: how much of what the other classes gain is the smaller choice alone."""
    choice, training, whole = (finding["differences"][pair]["uar"] for pair in DIFFERENCES)
    full = finding["variants"]["full"]
    told = "tell" if training["p_holm"] <= 0.05 else "do not tell"
    told = "cannot tell" if finding["lowest_p"] > 0.05 else told
    interval = f", 95 % {written(whole)}" if whole["interval"] else ""
    return (
        f"{' '.join([*map(str, finding['setting'].values()), finding['dropped']])}: without it UAR"
        f" on the {full['n']} clips of the other classes goes from {full['uar']:.3f} to"
        f" {whole['a']:.3f} ({whole['difference']:+.3f}{interval}): {choice['difference']:+.3f} by"
        f" the smaller choice alone, {training['difference']:+.3f} by training without it, which"
        f" {len(finding['speakers'])} speakers {told} apart from chance"
        f" (Holm p {training['p_holm']:.4f})."
    )


def written(difference: Mapping) -> str:
    """Return the interval of a difference as text, or why there is none."""
    interval = difference["interval"]
    return f"{interval[0]:+.3f} to {interval[1]:+.3f}" if interval else difference["unknown"]


def compare_models(full: pd.DataFrame, retrained: pd.DataFrame, dropped: str) -> dict[str, object]:
    """Compare three models on the clips of the other classes.

    `full` is the full model as it is, which may still answer `dropped`; `masked` its most probable
    other class; `retrained` the model that was trained without `dropped`.

    Args:
        full: Rows of the full model's predictions.csv by clip.
        retrained: Rows of the other's.
        dropped: The class.

    Returns:
        `classes` of the full model, `speakers`, `variants` (each with n clips, uar, macro_f1, the
        chance level 1 / classes to choose from, and f1 by class), `differences` of them by
        `ser.evaluation.statistics.paired_difference`, and `flow`: by class, how many of the dropped
        class's own clips masked calls so.

    Raises:
        ValueError: The full model has no such class, or the other did not score the same clips.
    """
    classes = [column.removeprefix("p_") for column in full.filter(regex="^p_")]
    kept = [name for name in classes if name != dropped]
    own = (full.label == dropped).to_numpy()
    clips = full[~own]
    if len(kept) == len(classes) or not clips.index.isin(retrained.index).all():
        raise ValueError("the full model has other classes, or scored other clips")
    if (clips.sha256 != retrained.sha256[clips.index]).any():
        raise ValueError("the clips of the full model sound different")
    masked = np.array(kept)[full[[f"p_{name}" for name in kept]].to_numpy().argmax(axis=1)]
    truth, speakers = clips.label.to_numpy(str), speakers_of(clips)
    predictions = {
        "full": clips.prediction.to_numpy(str),
        "masked": masked[~own],
        "retrained": retrained.prediction[clips.index].to_numpy(str),
    }
    variants = {}
    for variant, predicted in predictions.items():
        found = scores(truth, predicted)
        f1 = {name: row["f1"] for name, row in per_class(truth, predicted, kept).items()}
        choices = len(classes if variant == "full" else kept)
        variants[variant] = {"n": len(truth), **{key: found[key] for key in SCORES}}
        variants[variant] |= {"chance": 1 / choices, "f1": f1}
    differences = {}
    for pair, (a, b) in DIFFERENCES.items():
        found = paired_difference(truth, predictions[a], predictions[b], speakers)
        differences[pair] = {score: found[score] for score in SCORES}
    return {
        "classes": classes,
        "speakers": sorted(set(speakers)),
        "variants": variants,
        "differences": differences,
        "flow": {name: int(np.sum(masked[own] == name)) for name in kept},
    }


def tabulate(findings: Sequence[Mapping]) -> pd.DataFrame:
    """Return a row a dropped class and variant: the content of ablation.csv."""
    stamps = [stamp for stamp in STAMPS if any(finding[stamp] for finding in findings)]
    rows = []
    for finding in findings:
        for variant, found in finding["variants"].items():
            row = {**finding["setting"], "dropped": finding["dropped"], "variant": variant, **found}
            f1 = row.pop("f1")
            row |= {f"f1_{name}": f1.get(name) for name in finding["classes"]}
            rows.append(row | {stamp: finding[stamp] for stamp in stamps})
    return pd.DataFrame(rows)


def write_findings(folder: Path, findings: Sequence[Mapping], left_out: Sequence[str]) -> None:
    """Write ablation.csv, ablation.json, ablation.png and ablation.html."""
    content = {"ci_method": METHOD, "left_out": left_out, "findings": findings}
    (folder / "ablation.json").write_text(json.dumps(content, indent=2) + "\n")
    tabulate(findings).to_csv(folder / "ablation.csv", index=False)
    stamp = _stamp(findings)
    plots.class_drop(findings, folder / "ablation.png", stamp)
    picture = embed_picture(folder / "ablation.png")
    values = {**content, "scores": SCORES, "stamp": stamp, "picture": picture}
    (folder / "ablation.html").write_text(render_page("ablation.html.j2", **values))


def _stamp(findings: Sequence[Mapping]) -> str:
    return " ".join(stamp.upper() for stamp in STAMPS if any(row[stamp] for row in findings))


def show_findings(folder: Path, findings: Sequence[Mapping], left_out: Sequence[str]) -> None:
    """Print the three models of each class, a sentence a class, and what is left out."""
    console = Console(markup=False, highlight=False)
    if findings:
        console.print(_table(findings))
    for line in (*(finding["sentence"] for finding in findings), *left_out):
        console.print(line, soft_wrap=True)
    if findings:
        console.print(f"ablation.csv, .json, .png and .html are in {folder}", soft_wrap=True)


def _table(findings: Sequence[Mapping]) -> Table:
    title = f"{_stamp(findings)} the clips of the other classes; added: to the UAR above".strip()
    names = [*findings[0]["setting"], "dropped"]
    names += [Column("model", no_wrap=True), "clips", "chance", *SCORES.values()]
    interval = Column("95 % by speaker", no_wrap=True)
    table = Table(*names, "added", interval, "Holm p", title=title, box=box.SIMPLE_HEAD, padding=0)
    for finding in findings:
        label = [*map(str, finding["setting"].values()), finding["dropped"]]
        for variant, pair in zip(finding["variants"], (None, *DIFFERENCES), strict=False):
            found, added = finding["variants"][variant], []
            if pair:
                uar = finding["differences"][pair]["uar"]
                added = [f"{uar['difference']:+.3f}", written(uar), f"{uar['p_holm']:.4f}"]
            figures = [f"{found[key]:.3f}" for key in ("chance", *SCORES)]
            table.add_row(*label, variant, str(found["n"]), *figures, *added)
        table.add_section()
    return table
