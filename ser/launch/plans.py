"""Plans of sweeps whose jobs depend on the data: over dropped classes, and over corpora."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from ser.analysis import class_drop, loco
from ser.corpora.labels import label_emotions
from ser.data.datamodule import describe
from ser.evaluation.jobs import collect, varied
from ser.evaluation.metrics import PREFIXES, key_prefix
from ser.launch.run_folder import ending
from ser.reporting.wandb import finish_wandb, wandb_group


class ClassDrop(Callback):
    """Makes a sweep of the full model and one without each class; ends it with their comparison."""

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        """Set the classes that each job drops; what cannot be dropped ends the sweep at once."""
        with ending():
            drops = plan(config)
        self.base = drops[0]
        swept = ",".join(f"[{','.join(names)}]" for names in drops)
        params = config.hydra.sweeper.params or {}
        with open_dict(config.hydra):
            config.hydra.sweeper.params = {**params, "data.drop": swept}

    def on_multirun_end(self, config: DictConfig, **_: object) -> None:
        """Compare the jobs; write ablation.csv, .json, .png and .html beside them."""
        folder = Path(config.hydra.sweep.dir)
        findings, left_out = class_drop.collect_findings(folder, collect(folder), self.base)
        if findings:
            class_drop.write_findings(folder, findings, left_out)
        class_drop.show_findings(folder, findings, left_out)
        if findings and "wandb" in (config.logger or {}):
            _log(folder, findings, config)


def plan(config: DictConfig) -> list[list[str]]:
    """List what each job drops: first the full model, then it and one of `drop_classes` each.

    The full model lacks what an experiment drops, or a corpus of it, such as calm under
    cross_corpus.

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
    whole = OmegaConf.to_container(config.data, resolve=True)
    labels = describe(whole).labels.emotions
    data = {key: whole[key] for key in ("keep", "merge")} | {"others": list(labels)}
    classes = list(dict.fromkeys(labels.values()))
    names = classes if config.drop_classes is None else config.drop_classes
    if not (names is classes or OmegaConf.is_list(names)) or not names:
        raise ValueError(f"drop_classes={names}: expected a list of classes, such as [sad,calm]")
    base = list(whole["drop"] or [])
    for name in names:
        label_emotions([name], others=labels)
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


def _log(folder: Path, findings: Sequence[Mapping], config: DictConfig) -> None:
    """Log the table and the picture in a W&B run of their own, in the group of the sweep."""
    options = key_prefix({key: any(one[key] for one in findings) for key in PREFIXES})
    group = config.group or wandb_group(folder)
    with finish_wandb():
        logger = instantiate(
            config.logger.wandb, save_dir=str(folder), group=group, job_type="ablation", **options
        )
        logger.log_table("ablation/scores", dataframe=class_drop.tabulate(findings))
        logger.log_image("ablation/picture", [str(folder / "ablation.png")])


class Loco(Callback):
    """Makes a sweep over the corpora that train and that test; ends it with their matrix."""

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        """Set the corpora of each job; what cannot be parted ends the sweep at once."""
        with ending():
            names = [f"['{name}']" for name in corpora_of(config)]
        trained = [*names, "null"] if len(names) > 2 else names  # of two there is one other
        swept = dict(zip(loco.CORPORA, (",".join(trained), ",".join(names)), strict=True))
        params = config.hydra.sweeper.params or {}
        with open_dict(config.hydra):
            config.hydra.sweeper.params = {**params, **swept}

    def on_multirun_end(self, config: DictConfig, **_: object) -> None:
        """Write loco.csv, .json and .png beside the jobs."""
        folder = Path(config.hydra.sweep.dir)
        found = collect(folder)
        others = [key for key in varied(found) if key not in loco.CORPORA]
        cells = loco.collect_cells(folder, found, others)
        if cells:
            loco.write_cells(folder, cells, others)
        loco.show_cells(folder, cells, others)


def corpora_of(config: DictConfig) -> list[str]:
    """List the corpora of a matrix.

    Raises:
        ValueError: There are fewer than two, or the command says itself which train or test.
    """
    for override in OverridesParser.create().parse_overrides(list(config.hydra.overrides.task)):
        if override.key_or_group in loco.CORPORA:
            raise ValueError(
                f"{override.input_line}: sweep=loco sets it itself; expected data.corpora= or"
                " data.roles= to say which corpora"
            )
    if not str(config.protocol.get("_target_")).endswith(".CrossCorpus"):
        raise ValueError("sweep=loco with another protocol: expected cross_corpus, its own")
    roles = describe(OmegaConf.to_container(config.data, resolve=True)).resolved
    names = [name for name, role in roles.items() if role != "off"]
    if len(names) < 2:
        raise ValueError(f"sweep=loco of {names}: expected two corpora or more in data.corpora")
    return names
