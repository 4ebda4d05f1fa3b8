"""A sweep that leaves classes out, one at a time, and ends with the account of what that did."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from rich import box
from rich.console import Console
from rich.table import Column, Table

from ser import summary
from ser.analysis.class_drop import DIFFERENCES, SCORES, collect, tabulate, written
from ser.corpora.labels import label_emotions
from ser.evaluation.statistics import METHOD
from ser.launch.run_folder import end
from ser.reporting import html as page
from ser.reporting import plots
from ser.reporting import wandb as tracking


class Ablation(Callback):
    """Makes a sweep of the full model and one without each class; ends it with their account."""

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        """Say which classes each job drops; what cannot be dropped ends the sweep before a job."""
        try:
            drops = plan(config)
        except ValueError as error:
            end(error)
        self.base = drops[0]
        swept = ",".join(f"[{','.join(names)}]" for names in drops)
        with open_dict(config.hydra):
            config.hydra.sweeper.params = {
                **(config.hydra.sweeper.params or {}),
                "data.drop": swept,
            }

    def on_multirun_end(self, config: DictConfig, **_: object) -> None:
        """Compare the jobs; write ablation.csv, .json, .png and .html beside them."""
        folder = Path(config.hydra.sweep.dir)
        jobs = summary.collect(folder)
        accounts, left_out = collect(folder, jobs, self.base)
        if accounts:
            write(folder, accounts, left_out)
        show(folder, accounts, left_out)
        if accounts and "wandb" in (config.logger or {}):
            _log(folder, accounts, config)


def plan(config: DictConfig) -> list[list[str]]:
    """List what each job drops: first the full model, then it and one of `drop_classes` each.

    The full model lacks what a protocol or an experiment drops, such as calm under cross_corpus.

    Raises:
        ValueError: `drop_classes` is no list of different classes of the full model, or data.drop
            or a sweep over drop_classes came with the command.
    """
    for override in OverridesParser.create().parse_overrides(list(config.hydra.overrides.task)):
        if override.key_or_group == "data.drop":
            raise ValueError(
                f"{override.input_line}: sweep=drop_each_class sets data.drop itself; expected"
                " drop_classes=[sad,calm] or the like"
            )
        if override.key_or_group == "drop_classes" and override.is_sweep_override():
            value = override.input_line.partition("=")[2]
            raise ValueError(f"{override.input_line} is no list: expected drop_classes=[{value}]")
    data = OmegaConf.to_container(OmegaConf.masked_copy(config.data, ["drop", "keep", "merge"]))
    labels = label_emotions(**data)
    classes = list(dict.fromkeys(labels.values()))
    names = classes if config.drop_classes is None else config.drop_classes
    if not (names is classes or OmegaConf.is_list(names)) or not names:
        raise ValueError(f"drop_classes={names}: expected a list of classes, such as [sad,calm]")
    base = list(data.pop("drop") or [])
    for name in names:
        label_emotions([name])
        if name not in classes:
            raise ValueError(
                f"drop_classes={names}: {name} is no class of the full model; expected some of"
                f" {', '.join(classes)}"
            )
        if list(labels.values()).count(name) > 1:
            raise ValueError(
                f"drop_classes={names}: data.merge={data['merge']} gives {name} other emotions;"
                " expected classes of one emotion"
            )
        if list(names).count(name) > 1:
            raise ValueError(f"drop_classes={names} names {name} twice: expected each class once")
        label_emotions([*base, name], **data)
    return [base, *([*base, name] for name in names)]


def write(folder: Path, accounts: Sequence[Mapping], left_out: Sequence[str]) -> None:
    """Write ablation.csv, ablation.json, ablation.png and ablation.html."""
    content = {"ci_method": METHOD, "left_out": left_out, "accounts": accounts}
    (folder / "ablation.json").write_text(json.dumps(content, indent=2) + "\n")
    tabulate(accounts).to_csv(folder / "ablation.csv", index=False)
    stamp = _stamp(accounts)
    plots.ablation(accounts, folder / "ablation.png", stamp)
    picture = page.embed(folder / "ablation.png")
    values = {**content, "scores": SCORES, "stamp": stamp, "picture": picture}
    (folder / "ablation.html").write_text(page.render("ablation.html.j2", **values))


def _stamp(accounts: Sequence[Mapping]) -> str:
    return " ".join(
        stamp.upper() for stamp in summary.STAMPS if any(row[stamp] for row in accounts)
    )


def show(folder: Path, accounts: Sequence[Mapping], left_out: Sequence[str]) -> None:
    """Print the three models of each class, a sentence a class, and what is left out."""
    console = Console(markup=False, highlight=False)
    if accounts:
        console.print(_table(accounts))
    for line in (*(account["sentence"] for account in accounts), *left_out):
        console.print(line, soft_wrap=True)
    if accounts:
        console.print(f"ablation.csv, .json, .png and .html are in {folder}", soft_wrap=True)


def _table(accounts: Sequence[Mapping]) -> Table:
    title = f"{_stamp(accounts)} the clips of the other classes; added: to the UAR above".strip()
    names = [*accounts[0]["setting"], "dropped"]
    names += [Column("model", no_wrap=True), "clips", "chance", *SCORES.values()]
    interval = Column("95 % by speaker", no_wrap=True)
    table = Table(*names, "added", interval, "Holm p", title=title, box=box.SIMPLE_HEAD, padding=0)
    for account in accounts:
        label = [*map(str, account["setting"].values()), account["dropped"]]
        for variant, pair in zip(account["variants"], (None, *DIFFERENCES), strict=False):
            found, added = account["variants"][variant], []
            if pair:
                uar = account["differences"][pair]["uar"]
                added = [f"{uar['difference']:+.3f}", written(uar), f"{uar['p_holm']:.4f}"]
            figures = [f"{found[key]:.3f}" for key in ("chance", *SCORES)]
            table.add_row(*label, variant, str(found["n"]), *figures, *added)
        table.add_section()
    return table


def _log(folder: Path, accounts: Sequence[Mapping], config: DictConfig) -> None:
    """Log the table and the picture in a W&B run of their own, in the group of the sweep."""
    options = {"prefix": tracking.LEAKY} if any(account["leaky"] for account in accounts) else {}
    group = config.group or tracking.group_of(folder)
    with tracking.finished():
        logger = instantiate(
            config.logger.wandb, save_dir=str(folder), group=group, job_type="ablation", **options
        )
        logger.log_table("ablation/scores", dataframe=tabulate(accounts))
        logger.log_image("ablation/picture", [str(folder / "ablation.png")])
