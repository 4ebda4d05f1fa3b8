"""The stress card: the UAR that a checkpoint keeps where its test clips are recorded otherwise."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import cpu_count
from lightning import Trainer
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ser.audio.conditions import CONDITIONS, alter, kind_of
from ser.audio.decode import quantise
from ser.cache.rows import Rows
from ser.checkpoints.format import RECIPE, Checkpoint, load_checkpoint
from ser.checkpoints.source import open_data
from ser.config.split_info import STAMPS, joint_stamps
from ser.data.datamodule import EmotionDataModule
from ser.evaluation.metrics import scores
from ser.evaluation.results import read_metrics
from ser.evaluation.statistics import METHOD, holm, paired_difference, speaker_interval, speakers_of
from ser.reporting import plots
from ser.training.fit import score

STRESSED = "## Under other conditions\n\n"
"""The section of a model card, before that of its limits."""

CLEAN = "clean"
COLUMNS = (
    "condition", "level", "n", "uar", "uar_low", "uar_high", "difference", "low", "high", "p",
    "p_holm", "most", "share",
)  # fmt: skip
"""Of stress.csv: `difference` to clean clips, its interval paired by speaker from `low` to `high`,
and the class that is predicted `most`, of which `share` of the clips."""

AHEAD = 64
"""Recordings that are altered at once."""


class Altered:
    """Recordings under a condition, where a reader has its `Rows`; several are altered at once.

    Args:
        recordings: As they were decoded, int16.
        begins: By row, in the order in which the rows will be read, where the window begins.
        name: Of the condition.
        rate: Hz.
        seed: Of what is random.
        others: Recordings that babble is made of.
        pool: Does the work.
    """

    def __init__(
        self,
        recordings: Rows,
        begins: Mapping[int, int],
        name: str,
        rate: int,
        seed: int,
        others: Sequence[np.ndarray],
        pool: ThreadPoolExecutor,
    ) -> None:
        self.recordings, self.begins, self.pool = recordings, begins, pool
        self.name, self.rate, self.seed, self.others = name, rate, seed, others
        self.ready: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, row: int) -> np.ndarray:
        if row not in self.ready:
            order = list(self.begins)
            ahead = order[order.index(row) :][:AHEAD]
            self.ready = dict(zip(ahead, self.pool.map(self.alter, ahead), strict=True))
        return self.ready[row]

    def alter(self, row: int) -> np.ndarray:
        """Return a recording as 16 bit store it under the condition: (samples,) int16."""
        samples = self.recordings[row] / 32768
        begin = self.begins[row] if CONDITIONS[self.name].from_window else 0
        altered = alter(self.name, samples[begin:], self.rate, self.seed, self.others)
        return quantise(np.concatenate([samples[:begin], altered]))


def find_checkpoints(ckpt: str | None) -> list[Path | None]:
    """List the checkpoints of a path: a file, or those of the folds of a cross-validation.

    Raises:
        ValueError: It is a folder without a finished run, or a fold is missing.
    """
    path = None if ckpt is None else Path(ckpt).expanduser()
    if path is None or not path.is_dir() or (path / RECIPE).is_file():
        return [path]  # what is no file is refused when it is read
    metrics = read_metrics(path)
    if metrics["fold"] != "all":
        return [path / "checkpoints" / "best.ckpt"]
    found = sorted(path.glob("fold_*/checkpoints/best.ckpt"))
    if len(found) != metrics["folds"]:
        raise ValueError(
            f"ckpt={ckpt!r} has checkpoints of {len(found)} of its {metrics['folds']} folds:"
            " expected a cross-validation with all of them, as each scores the clips that it tests"
        )
    return found


def measure(
    checkpoints: Sequence[Path],
    names: Sequence[str],
    trainer: Trainer,
    *,
    seed: int = 0,
    compiled: bool = False,
    encoder: str | None = None,
    **places: object,
) -> dict:
    """Score the test clips of checkpoints clean and under each condition.

    Args:
        checkpoints: One, or those of all folds, whose clips are pooled.
        names: Of the conditions.
        trainer: To score with.
        seed: Of what is random in the conditions.
        compiled: As of `load_checkpoint`.
        encoder: As there.
        places: Where the data lie, see `open_data`.

    Returns:
        The content of stress.json; its `conditions` are the rows of stress.csv.

    Raises:
        ValueError: A checkpoint cannot be scored so, or the folds are not of one setting.
    """
    found = {name: [] for name in (CLEAN, *names)}
    infos, classes, babble = [], None, set()
    with ThreadPoolExecutor(cpu_count()) as pool:
        for path in checkpoints:
            loaded = load_checkpoint(path, compiled, encoder=encoder)
            _check(loaded, classes)
            infos.append(loaded.split_info)
            classes = loaded.model.classes
            data = open_data(loaded, split="test", **places)
            rows = babble_rows(data)
            if any(kind_of(name) == "babble" for name in names):
                if not rows:
                    raise ValueError(
                        f"babble is made of recordings of other speakers, and {data.place} has"
                        " none: expected conditions= without babble"
                    )
                babble |= {data.reader.clips[row].corpus for row in rows}
            others = [data.reader.waveforms[row] for row in rows]
            scored = _score(loaded, data, trainer, names, seed, others, pool)
            for name, predictions in scored:
                found[name].append(predictions)
    if len({info.protocol_hash for info in infos}) > 1 or len({i.fold for i in infos}) < len(infos):
        raise ValueError(
            f"{', '.join(map(str, checkpoints))} are not of the folds of one protocol: expected"
            " the folder of a cross-validation as it was written"
        )
    pooled = {name: pd.concat(parts) for name, parts in found.items()}
    rows = tabulate(pooled)
    fold = infos[0].fold if len(infos) == 1 else "all"
    said = asdict(infos[0]) | {"fold": fold} | joint_stamps(infos)
    return {
        "checkpoints": [str(path) for path in checkpoints],
        **said,
        "classes": classes,
        "n": len(pooled[CLEAN]),
        "speakers": np.unique(speakers_of(pooled[CLEAN])).tolist(),
        "seed": seed,
        "babble_of": sorted(babble),
        "ci_method": METHOD,
        "conditions": rows,
    }


def _check(loaded: Checkpoint, classes: Sequence[str] | None) -> None:
    if loaded.split_info.transductive:
        raise ValueError(
            f"ckpt={str(loaded.path)!r} was trained with normalize=speaker, which standardises a"
            " clip by the features of clean ones: expected a checkpoint trained without"
        )
    if classes not in (None, loaded.model.classes):
        raise ValueError(
            f"{loaded.path} tells {loaded.model.classes} apart, and the other folds {classes}:"
            " expected folds of one setting"
        )


def babble_rows(data: EmotionDataModule) -> list[int]:
    """List the rows of the speech that babble is made of: never of a speaker who is tested.

    It is of another corpus than is tested, else of other speakers; where all are tested, as under
    a leaky protocol, of the training clips.
    """
    tested = data.table[data.table.split == "test"]
    heard, corpora = {*speakers_of(tested)}, {*tested.corpus}
    clips = list(enumerate(data.reader.clips))
    spoken = [(row, clip) for row, clip in clips if clip.channel == "speech"]
    free = [(row, clip) for row, clip in spoken if clip.voice not in heard]
    foreign = [row for row, clip in free if clip.corpus not in corpora]
    trained = data.table.index[data.table.split == "train"]
    return foreign or [row for row, _ in free] or trained.to_list()


def _score(
    loaded: Checkpoint,
    data: EmotionDataModule,
    trainer: Trainer,
    names: Sequence[str],
    seed: int,
    others: Sequence[np.ndarray],
    pool: ThreadPoolExecutor,
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the rows of predictions.csv under each condition, clean first."""
    reader, window, recordings = data.reader, data.reader.window, data.reader.waveforms
    tested = data.table.index[data.table.split == "test"]
    begins = {row: reader.span(row)[0] for row in tested}
    yield CLEAN, score(loaded.model, data, trainer, "test")
    shown = f"fold {loaded.split_info.fold}"
    for name in track(names, shown, console=Console(stderr=True)):
        by_onset = CONDITIONS[name].by_onset
        reader.window = replace(window, start="onset") if by_onset else window
        rate = data.sample_rate
        reader.waveforms = Altered(recordings, begins, name, rate, seed, others, pool)
        yield name, score(loaded.model, data, trainer, "test")


def tabulate(found: Mapping[str, pd.DataFrame]) -> list[dict]:
    """Return a row a condition from the predictions under each, those of `CLEAN` among them."""
    clean, rows = found[CLEAN], []
    clips, truth, speakers = clean["clip"].to_list(), clean.label.to_numpy(str), speakers_of(clean)
    as_clean = clean.prediction.to_numpy(str)
    for name, predictions in found.items():
        if predictions["clip"].to_list() != clips or len({*clips}) < len(clips):
            raise ValueError(f"{name}: expected each clip once, the same as clean")
        named = predictions.prediction.to_numpy(str)
        row = dict.fromkeys(COLUMNS) | {"condition": name, "n": len(clean), "level": ""}
        row |= _uar(truth, named, speakers)
        if name != CLEAN:
            pair = paired_difference(truth, named, as_clean, speakers)["uar"]
            low, high = pair["interval"] or (None, None)
            row |= {"level": CONDITIONS[name].level, "difference": pair["difference"]}
            row |= {"low": low, "high": high, "p": pair["p"]}
        shares = predictions.prediction.value_counts(normalize=True)
        rows.append(row | {"most": shares.index[0], "share": float(shares.iloc[0])})
    altered = [row for row in rows if row["p"] is not None]
    for row, p in zip(altered, holm([row["p"] for row in altered]), strict=True):
        row["p_holm"] = p
    return rows


def _uar(truth: np.ndarray, named: np.ndarray, speakers: np.ndarray) -> dict[str, float | None]:
    interval = speaker_interval(lambda own: scores(truth[own], named[own])["uar"], speakers)
    low, high = interval or (None, None)
    return {"uar": scores(truth, named)["uar"], "uar_low": low, "uar_high": high}


def write_card(folder: Path, card: Mapping) -> None:
    """Write stress.csv, stress.json and stress.png."""
    table = pd.DataFrame(card["conditions"], columns=COLUMNS)
    stamps = {stamp: card[stamp] for stamp in STAMPS}
    _write_table(folder, table.assign(**stamps))
    _replace(folder / "stress.json", json.dumps(card, indent=2) + "\n")
    plots.stress(card["conditions"], folder / "stress.png", _stamp(card))


def add_to_model_cards(checkpoints: Sequence[Path], card: Mapping) -> None:
    """Put the card into the model card of the run that was scored; a fold alone has one too.

    Args:
        checkpoints: As of `measure`: of several folds the card is of their cross-validation.
        card: As it returns it.
    """
    run = checkpoints[0].parent.parent
    path = (run if len(checkpoints) == 1 else run.parent) / "model_card.md"
    if not path.is_file() or checkpoints[0].name != "best.ckpt":
        return
    rows = [
        f"| {row['condition']} | {row['level']} | {row['uar']:.3f} |"
        f" {'' if row['difference'] is None else format(row['difference'], '+.3f')} |"
        f" {_interval(row['low'], row['high'], '+.3f')} |"
        for row in card["conditions"]
    ]
    table = [
        "| condition | level | UAR | to clean | 95 % by speaker |",
        "|---|---|---|---|---|",
        *rows,
    ]
    before, limits, after = path.read_text().partition("## Limits\n")
    before = before.partition(STRESSED)[0]  # of an earlier card
    _replace(path, f"{before}{STRESSED}" + "\n".join([*table, "", limits + after]))


def show_card(folder: Path, card: Mapping) -> None:
    """Print a row a condition, and where the files lie."""
    console = Console(markup=False)  # a path may hold brackets
    table = Table(title=_stamp(card), box=box.SIMPLE_HEAD, collapse_padding=True)
    wide = console.width >= 120
    figures = ["condition", "UAR", "to clean", "95 % by speaker", "p", "most predicted"]
    if wide:
        figures[1:1], figures[-1:-1] = ["level"], ["Holm p"]
    for name in figures:
        table.add_column(name, no_wrap=True)
    for row in card["conditions"]:
        p, p_holm = ("" if row[key] is None else f"{row[key]:.4f}" for key in ("p", "p_holm"))
        table.add_row(
            row["condition"],
            *([row["level"]] if wide else []),
            f"{row['uar']:.3f}",
            "" if row["difference"] is None else f"{row['difference']:+.3f}",
            _interval(row["low"], row["high"], "+.3f"),
            p,
            *([p_holm] if wide else []),
            f"{row['most']} {row['share']:.0%}",
        )
    console.print(table)
    console.print(f"{card['n']} clips of {len(card['speakers'])} speakers")
    console.print(f"stress.csv, .json and .png are in {folder}", soft_wrap=True)


def write_cards(folder: Path, rows: Sequence[Mapping], keys: Sequence[str]) -> None:
    """Write one stress.csv and .json over the jobs of a multirun, and print a column a job.

    Args:
        folder: Of the multirun.
        rows: Its jobs, see `ser.evaluation.jobs.collect`.
        keys: What they differ in.
    """
    console, cards = Console(markup=False), {}
    for row in rows:
        path = folder / str(row["job"]) / "stress.json"
        if row["status"] == "finished" and path.is_file():
            cards[row["job"]] = json.loads(path.read_text())
    settings = {row["job"]: {key: row[key] for key in keys} for row in rows}
    found = [
        {"job": job} | settings[job] | each | {stamp: card[stamp] for stamp in STAMPS}
        for job, card in cards.items()
        for each in card["conditions"]
    ]
    _write_table(folder, pd.DataFrame(found))
    jobs = [{"job": job} | settings[job] | card for job, card in cards.items()]
    _replace(folder / "stress.json", json.dumps(jobs, indent=2) + "\n")
    names = [f"{job} {_stamp(card)}".strip() for job, card in cards.items()]
    table = Table("condition", "level", *names, title="UAR, to clean", box=box.SIMPLE_HEAD)
    kept = {(row["condition"], row["level"]): {} for row in found}
    for row in found:
        kept[row["condition"], row["level"]][row["job"]] = row
    for place, by_job in kept.items():
        table.add_row(*place, *(_cell(by_job.get(job)) for job in cards))
    console.print(table)
    for row in rows:
        said = " ".join(f"{key}={row[key]}" for key in keys)
        state = row["error"] or (row["status"] if row["status"] != "finished" else "")
        console.print(f"job {row['job']}: {said} {state}".rstrip(), soft_wrap=True)
    console.print(f"stress.csv and .json are in {folder}", soft_wrap=True)


def _cell(row: Mapping | None) -> str:
    """Show a UAR, its difference to clean, and that interval."""
    if row is None:
        return ""
    if row["difference"] is None:
        return f"{row['uar']:.3f}"
    interval = _interval(row["low"], row["high"], "+.3f")
    return f"{row['uar']:.3f} {row['difference']:+.3f}" + (f" [{interval}]" if interval else "")


def _interval(low: float | None, high: float | None, form: str) -> str:
    return "" if low is None else f"{low:{form}} to {high:{form}}"


def _stamp(card: Mapping) -> str:
    return " ".join(stamp.upper() for stamp in STAMPS if card[stamp])


def _write_table(folder: Path, table: pd.DataFrame) -> None:
    _replace(folder / "stress.csv", table.to_csv(index=False, lineterminator="\r\n"))


def _replace(path: Path, text: str) -> None:
    """Write a file that is never there by half."""
    partial = path.with_name(f"{path.name}.tmp")
    partial.write_text(text, newline="")
    os.replace(partial, path)
