"""The model card of a run, model_card.md: what the model is, was trained on, scores, and cannot do.

Its front matter is that of the Hugging Face hub (github.com/huggingface/hub-docs, modelcard.md).
"""

import html
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from jinja2 import Environment, PackageLoader
from omegaconf import DictConfig, OmegaConf

from ser.config.differences import FREE, below
from ser.config.split_info import STAMPS
from ser.corpora.clip import Corpus
from ser.reporting.errors import sources_of
from ser.reporting.run_report import HEADLINE, STAMPED

FORM = {"accuracy": "accuracy", "uar": "recall", "macro_f1": "f1"}
"""The hub's names of the headline scores; UAR is the macro recall."""

SPLITS = ("train", "val", "test")

SLICED = ("corpus", "channel", "gender", "intensity")
"""Slices of the card; those by speaker and statement are in metrics.json."""

PRIVATE = ("hydra", "data.root", "data.manifest", *(key for key in FREE if key != "fold"))
"""Overrides that say where files lie, and not what was trained."""


def write_card(
    folder: Path,
    metrics: Mapping,
    splits: pd.DataFrame,
    corpora: Mapping[str, Corpus],
    cfg: DictConfig,
) -> None:
    """Write model_card.md.

    Args:
        folder: The run folder.
        metrics: The content of metrics.json.
        splits: The rows of split.csv.
        corpora: What is known of each, by name.
        cfg: With which the model was trained.
    """
    config = OmegaConf.to_container(cfg, resolve=True)
    used = [name for name in corpora if name in set(splits.corpus)]
    scored = [name for name in used if name in metrics["slices"]["corpus"]]
    environment = Environment(
        loader=PackageLoader("ser.reporting", "templates"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # no page: nothing is escaped
    front = _front_matter(metrics, corpora, used, scored, config["name"])
    text = environment.get_template("model_card.md.j2").render(
        front=yaml.safe_dump(front, sort_keys=False, allow_unicode=True),
        metrics=metrics,
        name=html.escape(config["name"]),
        scores=HEADLINE,
        stamps=[text for stamp, text in STAMPED.items() if metrics[stamp]],
        model=_parts(config),
        window=config["data"]["window"],
        command=_command(folder),
        sources=sources_of(used, corpora),
        limits={corpora[name].title: corpora[name].limits for name in used},
        speakers=_speakers(splits, corpora),
        slices={column: metrics["slices"].get(column, {}) for column in SLICED},
        checkpoint="checkpoints/best.ckpt",
        pooled=metrics["fold"] == "all",
    )
    (folder / "model_card.md").write_text(text)


def _front_matter(
    metrics: Mapping,
    corpora: Mapping[str, Corpus],
    used: list[str],
    scored: list[str],
    name: str,
) -> dict[str, object]:
    """Return the front matter; a licence of the hub's where all recordings have the same."""
    licences = {corpora[one].licence_id for one in used}
    licence = licences.pop() if len(licences) == 1 else "other"
    stamps = [stamp for stamp in STAMPS if metrics[stamp]]
    titles = [corpora[one].title for one in scored]
    warned = f" ({', '.join(stamps)})" if stamps else ""
    front = {"library_name": "ser", "pipeline_tag": "audio-classification", "license": licence}
    if licence == "other":
        front["license_name"] = "as-the-recordings"
    # What has no source is no data set that anyone could find.
    if published := [one for one in used if corpora[one].source]:
        front["datasets"] = published
    front["tags"] = ["speech-emotion-recognition", "emotion", "speech", "audio", *stamps]
    front["metrics"] = list(FORM.values())
    front["model-index"] = [
        {
            "name": name,
            "results": [
                {
                    "task": {
                        "type": "audio-classification",
                        "name": "Speech emotion recognition",
                    },
                    "dataset": {
                        "type": "-".join(titles).lower().replace(" ", "-"),
                        "name": ", ".join(titles),
                        "split": metrics["split"],
                    },
                    "metrics": [
                        {"type": FORM[key], "value": metrics[key], "name": f"{label}{warned}"}
                        for key, label in HEADLINE.items()
                    ],
                }
            ],
        }
    ]
    return front


def _parts(config: Mapping) -> str:
    """Name the classes that the model is built from."""
    if config.get("ensemble") is not None:
        members = config["ensemble"]
        return f"the mean of {members if isinstance(members, int) else len(members)} models"
    model = config["model"]
    core = model.get("network") or model.get("estimator") or {}
    # Of a pipeline the last step predicts, and of what calibrates that, its estimator.
    while inner := (core.get("_args_") or [core.get("estimator")])[-1]:
        core = inner
    names = [part["_target_"].rpartition(".")[2] for part in (core, model["frontend"]) if part]
    return " on ".join(f"`{name}`" for name in names)


def _command(folder: Path) -> str:
    """Return how the run was started, without what says where files lie; empty where not known."""
    recorded = folder / ".hydra" / "overrides.yaml"
    if not recorded.is_file():
        return ""
    shown = []
    for override in OmegaConf.load(recorded):
        key, _, value = " ".join(str(override).split()).lstrip("+~").partition("=")
        if not below(key, PRIVATE):
            path = Path(value.strip("'\""))
            local = path.is_absolute() or value.startswith("~")
            shown.append(f"{key}={path.name if local else value}")
    return " ".join(["train.py", *shown])


def _speakers(splits: pd.DataFrame, corpora: Mapping[str, Corpus]) -> dict[str, dict[str, str]]:
    """Return by corpus and split how many speakers there are, by name where they are published."""
    found = {}
    for (name, split), rows in sorted(
        splits.groupby(["corpus", "split"]), key=lambda group: SPLITS.index(group[0][1])
    ):
        names = np.unique(rows.speaker.astype(str)).tolist()
        text = f"{len(names)} speaker{'s' * (len(names) > 1)}, {len(rows)} clips"
        if corpora[name].licence:  # those of a manifest may be the names of people
            text += f": {', '.join(names)}"
        found.setdefault(corpora[name].title, {})[split] = text
    return found
