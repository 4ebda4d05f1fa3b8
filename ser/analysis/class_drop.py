"""What leaving a class out does to the others: the smaller choice and new training told apart."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from ser import summary
from ser.evaluation.metrics import marginalise_gender, per_class, scores
from ser.evaluation.statistics import holm, lowest_p, paired_difference

DIFFERENCES = {
    "masked - full": ("masked", "full"),
    "retrained - masked": ("retrained", "masked"),
    "retrained - full": ("retrained", "full"),
}
SCORES = {"uar": "UAR", "macro_f1": "macro F1"}


def collect(
    folder: Path, jobs: Sequence[Mapping[str, object]], base: Sequence[str] = ()
) -> tuple[list[dict[str, object]], list[str]]:
    """Give an account for each job without a class and the full job that differs in that alone.

    Classes of emotion and gender are folded to emotions: what is dropped is one of these. An
    account is that of `compare` with the `setting` (what else varied), `dropped`, `leaky`,
    `transductive` and a `sentence`. Its differences have `p_holm` over the classes of a setting,
    which cannot be below `lowest_p`.

    Args:
        folder: Of the multirun.
        jobs: Rows of its summary.
        base: What the full model lacks already.

    Returns:
        The accounts, and a line for each class or setting that has none.
    """
    settings = defaultdict(list)
    varied = [key for key in summary.varied(jobs) if key != "data.drop"]
    for job in jobs:
        settings[tuple((key, job[key]) for key in varied)].append(job)
    accounts, left_out = [], []
    for setting, of_setting in settings.items():
        found, lines = _of_setting(folder, of_setting, frozenset(base))
        for account in found:
            account = {"setting": dict(setting), **account}
            accounts.append(account | {"sentence": _sentence(account)})
        label = "".join(f"{key}={value}: " for key, value in setting)
        left_out += [label + line for line in lines]
    return accounts, left_out


def _of_setting(
    folder: Path, jobs: Sequence[Mapping], base: frozenset[str]
) -> tuple[list[dict], list[str]]:
    drops = [frozenset(str(job.get("data.drop", "")).strip("[]").split(",")) - {""} for job in jobs]
    full = dict(zip(drops, jobs, strict=True)).get(base)
    if full is None or full["status"] != "finished":
        state = "is missing" if full is None else f"(job {full['job']}) is {full['status']}"
        return [], [f"nothing to compare with: the full model {state}"]
    of_full = _read(folder, full)
    accounts, left_out = [], []
    for drop, job in zip(drops, jobs, strict=True):
        for dropped in drop - base:
            try:
                if job["status"] != "finished":
                    raise ValueError(f"job {job['job']} is {job['status']}")
                account = compare(of_full, _read(folder, job), dropped)
            except ValueError as error:
                left_out.append(f"{dropped} is left out: {error}")
                continue
            stamps = {stamp: bool(full[stamp] or job[stamp]) for stamp in summary.STAMPS}
            accounts.append({"dropped": dropped, **account, **stamps})
    for pair, score in product(DIFFERENCES, SCORES):
        found = [account["differences"][pair][score] for account in accounts]
        for row, p in zip(found, holm([row["p"] for row in found]), strict=True):
            row["p_holm"] = p
    for account in accounts:
        account["lowest_p"] = min(1.0, len(accounts) * lowest_p(len(account["speakers"])))
    return accounts, left_out


def _read(folder: Path, job: Mapping) -> pd.DataFrame:
    predictions = pd.read_csv(folder / str(job["job"]) / "predictions.csv", dtype={"speaker": str})
    folded = marginalise_gender(predictions, _classes(predictions))
    return predictions if folded is None else folded[0]


def _classes(predictions: pd.DataFrame) -> list[str]:
    return [column.removeprefix("p_") for column in predictions.filter(regex="^p_")]


def _sentence(account: Mapping) -> str:
    """Say how much of what the other classes gain is the smaller choice alone."""
    choice, training, whole = (account["differences"][pair]["uar"] for pair in DIFFERENCES)
    full = account["variants"]["full"]
    told = "tell" if training["p_holm"] <= 0.05 else "do not tell"
    told = "cannot tell" if account["lowest_p"] > 0.05 else told
    interval = f", 95 % {written(whole)}" if whole["interval"] else ""
    return (
        f"{' '.join([*map(str, account['setting'].values()), account['dropped']])}: without it UAR"
        f" on the {full['n']} clips of the other classes goes from {full['uar']:.3f} to"
        f" {whole['a']:.3f} ({whole['difference']:+.3f}{interval}): {choice['difference']:+.3f} by"
        f" the smaller choice alone, {training['difference']:+.3f} by training without it, which"
        f" {len(account['speakers'])} speakers {told} apart from chance"
        f" (Holm p {training['p_holm']:.4f})."
    )


def written(difference: Mapping) -> str:
    """Write the interval of a difference, or why there is none."""
    interval = difference["interval"]
    return f"{interval[0]:+.3f} to {interval[1]:+.3f}" if interval else difference["unknown"]


def compare(full: pd.DataFrame, retrained: pd.DataFrame, dropped: str) -> dict[str, object]:
    """Compare three ways to name the clips of the other classes, on the same clips.

    `full` is the full model as it is, which may still answer `dropped`; `masked` its most probable
    other class; `retrained` the model that was trained without `dropped`.

    Args:
        full: Rows of the full model's predictions.csv.
        retrained: Rows of the other's.
        dropped: The class.

    Returns:
        `classes` of the full model, `speakers`, `variants` (each with n clips, uar, macro_f1, the
        chance level 1 / classes to choose from, and f1 by class), `differences` of them by
        `ser.evaluation.statistics.paired_difference`, and `flow`: by class, how many of the dropped
        class's own clips masked gives it.

    Raises:
        ValueError: The full model has no such class, or the other did not score the same clips.
    """
    classes = _classes(full)
    kept = [name for name in classes if name != dropped]
    own = (full.label == dropped).to_numpy()
    clips, others = full[~own], retrained.set_index("path")
    if len(kept) == len(classes) or not clips.path.isin(others.index).all():
        raise ValueError("the full model has other classes, or scored other clips")
    if (clips.sha256.to_numpy() != others.sha256[clips.path].to_numpy()).any():
        raise ValueError("the clips of the full model sound different")
    masked = np.array(kept)[full[[f"p_{name}" for name in kept]].to_numpy().argmax(axis=1)]
    truth, speakers = clips.label.to_numpy(str), clips.speaker.to_numpy(str)
    predictions = {
        "full": clips.prediction.to_numpy(str),
        "masked": masked[~own],
        "retrained": others.prediction[clips.path].to_numpy(str),
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


def tabulate(accounts: Sequence[Mapping]) -> pd.DataFrame:
    """Give a row a dropped class and variant: the content of ablation.csv."""
    stamps = [stamp for stamp in summary.STAMPS if any(account[stamp] for account in accounts)]
    rows = []
    for account in accounts:
        for variant, found in account["variants"].items():
            row = {**account["setting"], "dropped": account["dropped"], "variant": variant, **found}
            f1 = row.pop("f1")
            row |= {f"f1_{name}": f1.get(name) for name in account["classes"]}
            rows.append(row | {stamp: account[stamp] for stamp in stamps})
    return pd.DataFrame(rows)
