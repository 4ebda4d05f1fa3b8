"""The page: a recording goes in, and the answers of one or several models come out."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import gradio as gr
from markupsafe import Markup

from ser.corpora.labels import UNSURE
from ser.corpora.names import shown
from ser.inference.facts import describe_checkpoint
from ser.inference.model import Model, Prediction
from ser.page.timeline import Outline, draw_timeline
from ser.reporting.html import render_page

WAITING = 20
"""Recordings that may wait for an answer."""

CSS = """
.gradio-container { width: 100%; max-width: 1180px !important; margin: 0 auto !important }
.gradio-container .html-container { padding: 0 }
.title { margin: 0; font-size: 1rem; font-weight: 600; overflow-wrap: anywhere }
.facts { display: grid; grid-template-columns: 5.5rem 1fr; gap: .35rem .8rem; margin: 0;
  font-size: .85rem; line-height: 1.4 }
.facts dt { opacity: .6 }
.facts dd { margin: 0; overflow-wrap: anywhere }
.stamp { background: #b00020; color: white; padding: .3rem .6rem; margin: .3rem 0; font-weight: 600;
  font-size: .85rem }
.answer { font-size: 1.9rem; font-weight: 600; line-height: 1.2; margin: 0 }
.answer.unsure { opacity: .55 }
.remark { font-size: .85rem; opacity: .7; margin: .2rem 0 0 }
.status { margin: 0; overflow-wrap: anywhere }
.failed { color: #b00020; font-weight: 600 }
"""

THEME = gr.themes.Default(
    primary_hue="blue",
    # Fonts of the reader's system: no others are fetched.
    font=["system-ui", "sans-serif"],
    font_mono=["system-ui", "sans-serif"],
)

IDLE = Markup('<p class="status">Upload a recording, or record one.</p>')


class Page:
    """What is shown, and what answers.

    Args:
        models: One or several; each has a column.
        folder: Below which uploads lie, each in a folder of its own.
        max_minutes: Of a recording.
    """

    def __init__(self, models: Sequence[Model], folder: Path, max_minutes: float) -> None:
        self.models = models
        folder.mkdir(exist_ok=True)
        self.folder = folder.resolve()
        self.max_minutes = max_minutes

    def build(self) -> gr.Blocks:
        """Build the page, which makes predictions one after another."""
        with gr.Blocks(title="Emotion in speech", analytics_enabled=False) as blocks:
            gr.Markdown("# Emotion in speech")
            several = len(self.models) > 1
            with gr.Row(equal_height=False):
                with gr.Column(scale=2, min_width=320):
                    recording = gr.Audio(
                        label=f"Recording, up to {self.max_minutes:g} minutes",
                        sources=["upload", "microphone"],
                        type="filepath",
                        editable=False,
                        buttons=[],
                        elem_id="recording",
                    )
                    status = gr.HTML(IDLE, elem_id="status")
                    if not several:
                        _show_facts(self.models[0], "title", "facts")
                if not several:
                    with gr.Column(scale=3, min_width=420):
                        parts = _answer_parts(0)
            if several:
                parts = []
                with gr.Row(equal_height=False):
                    for number, model in enumerate(self.models):
                        with gr.Column(min_width=320):
                            _show_facts(model, "title")
                            parts += _answer_parts(number)
                            _show_facts(model, "facts")
            place = gr.Textbox(visible=False)
            gr.on(
                [recording.upload, recording.stop_recording],
                self.answer,
                [recording, place],
                [recording, status, *parts],
                # The path alone is sent: Gradio would copy the file that a request names.
                js="(recording) => [null, recording && recording.path]",
                api_visibility="private",
                concurrency_limit=1,
                show_progress="minimal",
                show_progress_on=status,
            )
            blocks.queue(max_size=WAITING, api_open=False)
        return blocks

    def answer(self, _: None, upload: str | None) -> list:
        """Answer for an upload, and delete it.

        Args:
            upload: Its path.

        Returns:
            The values of all that is shown: nothing for the recording, which is gone, the status,
            and for each model its panel, headline, probabilities, timeline and table.
        """
        # Whatever a request names: what is read and deleted is a folder of one upload.
        path = Path((upload or "").replace("\0", "")).resolve()
        if path.parent.parent != self.folder:
            return self._refuse("no recording has arrived: upload it again")
        try:
            outline = Outline.read(path, 60 * self.max_minutes)
            predictions = [model.predict(path) for model in self.models]
        except ValueError as error:
            reason = str(error).replace(str(path), "").lstrip(": ")
            return self._refuse(f"{path.name}: {reason}")
        finally:
            shutil.rmtree(path.parent, ignore_errors=True)
        status = Markup('<p class="status">{}, {:.1f} s; deleted after this answer.</p>').format(
            shown(path.name), outline.seconds
        )
        parts = [None, status]
        for prediction in predictions:
            parts += [
                gr.Column(visible=True),
                _headline(prediction),
                prediction.probabilities,
                draw_timeline(outline, prediction),
                _table(prediction),
            ]
        return parts

    def _refuse(self, reason: str) -> list:
        status = Markup('<p class="status failed">{}</p>').format(shown(reason))
        hidden = [gr.Column(visible=False), "", None, None, None]
        return [None, status, *hidden * len(self.models)]


def _show_facts(model: Model, *templates: str) -> None:
    facts = asdict(describe_checkpoint(model.checkpoint))
    for template in templates:
        gr.HTML(render_page(f"page_{template}.html.j2", **facts))


def _answer_parts(number: int) -> list[gr.blocks.Block]:
    """Build what an answer of a model is shown in, hidden until there is one."""
    with gr.Column(visible=False) as panel:
        headline = gr.HTML(elem_id=f"answer-{number}")
        shares = gr.Label(show_heading=False, show_label=False)
        timeline = gr.Plot(show_label=False)
        with gr.Accordion("Windows", open=False):
            table = gr.Dataframe(interactive=False, buttons=[], max_height=320)
    return [panel, headline, shares, timeline, table]


def _headline(prediction: Prediction) -> str:
    if prediction.label == UNSURE:
        text = Markup('<p class="answer unsure">{}</p><p class="remark">{}</p>').format(
            UNSURE, "no class is likely enough for the errors that were accepted"
        )
    else:
        text = Markup('<p class="answer">{}</p>').format(prediction.label)
    if prediction.trained:
        text += Markup('<p class="stamp">the model was trained on this very recording</p>')
    return text


def _table(prediction: Prediction) -> dict:
    rows = [
        [
            f"{window.start:.2f}",
            f"{window.end:.2f}",
            window.label,
            *(f"{share:.3f}" for share in window.probabilities.values()),
        ]
        for window in prediction.windows
    ]
    return {"headers": ["from (s)", "to (s)", "label", *prediction.probabilities], "data": rows}
