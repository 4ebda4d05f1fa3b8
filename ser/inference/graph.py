"""A model and its window as one ONNX graph: waveforms of any length -> probabilities."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from lightning import LightningModule
from onnx import ModelProto, compose
from onnx.helper import make_opsetid
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from torch import Tensor, nn
from torch.export import Dim

from ser.audio.window import Window
from ser.features.encoders import Encoder, reason
from ser.features.opensmile import OpenSmile
from ser.models.layers import temper
from ser.training.committee import Committee
from ser.training.estimator import EstimatorClassifier

OPSET = 20
"""Version of ONNX's operators, which onnxruntime knows since 1.17."""

IR = 10
"""Version of the format, which onnxruntime knows since then too."""


class Windows(nn.Module):
    """Cuts recordings as `Window.spans` cuts those of no corpus.

    Args:
        window: That the model hears.
    """

    def __init__(self, window: Window) -> None:
        super().__init__()
        start = "onset"
        if not isinstance(window.start, str):
            start = window.start.get("other", start)
        self.start = 0.0 if start == "corpus" else start
        self.window = window
        self.hop = round(window.hop_seconds * window.sample_rate)

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Cut waveforms (batch, samples) in -1..1.

        Returns:
            All windows, (windows, samples), and what each counts in the mean of each recording,
            (batch, windows).
        """
        count, size = waveform.shape[1], self.window.samples
        recording = torch.round(waveform * 32768).clamp(-32768, 32767)  # as `decode` stores it
        begin, end = self._bounds(recording)
        beyond = (end - begin - size).clamp(min=0)
        counts = (beyond + self.hop - 1) // self.hop + 1  # (batch,)
        if self.hop > size:
            counts = torch.minimum(counts, ((end - begin - 1) // self.hop + 1).clamp(min=1))
        most = counts.amax(0).item()
        torch._check(most >= 1)
        numbers = torch.arange(most)
        # A range of known length would stand in the file, number by number.
        within = torch.arange(count + size)[:size]
        places = begin[:, None, None] + self.hop * numbers[:, None] + within
        places = torch.where(places < end[:, None, None], places, count)
        padded = nn.functional.pad(recording / 32768, (0, 1))  # the zero that stands for padding
        windows = padded.gather(1, places.flatten(1)).reshape(-1, size)
        shares = (numbers < counts[:, None]) / counts[:, None]
        rows = torch.arange(waveform.shape[0])
        own = (rows[:, None] == rows)[:, :, None]
        return windows, torch.where(own, shares, 0.0).flatten(1)

    def _bounds(self, recording: Tensor) -> tuple[Tensor, Tensor]:
        """Return the samples (batch,) at which windows begin, and before which they end."""
        places, count = torch.arange(recording.shape[1]), recording.shape[1]
        loudness = recording.abs()
        # In float64, as NumPy works the level out.
        level = loudness.amax(1, keepdim=True).double() * 10 ** (self.window.threshold_db / 20)
        loud = loudness >= level.ceil().clamp(min=1).float()
        onset = torch.where(loud, places, count).amin(1)
        silent = onset == count
        offset = torch.where(loud, places + 1, 0).amax(1)
        whole = torch.zeros_like(onset) + count
        end = torch.where(silent, whole, offset) if self.window.trim_end else whole
        if self.start == "onset":
            begin = torch.where(silent, 0, onset)
        else:
            begin = torch.zeros_like(onset) + round(self.start * self.window.sample_rate)
        return torch.where(begin >= end, 0, begin), end


class Scores(nn.Module):
    """The whole of a model of networks: (batch, samples) -> (batch, classes).

    Args:
        model: Returns the probabilities of windows.
        window: That it hears.
    """

    def __init__(self, model: LightningModule, window: Window) -> None:
        super().__init__()
        self.cut = Windows(window)
        self.model = model

    def forward(self, waveform: Tensor) -> Tensor:
        """Return the probabilities (batch, classes) of waveforms (batch, samples)."""
        windows, shares = self.cut(waveform)
        mean = shares.double() @ self.model(windows).double()
        return temper(mean, self.model.temperature).float()


@dataclass(frozen=True)
class Leaf:
    """An estimator whose probabilities, or decision values, are a part of a model's average.

    Attributes:
        share: Of the average.
        features: Which of the front ends gives its features.
        estimator: Fitted.
        inverse: What its decision values are multiplied with before they become probabilities;
            None of one that has these itself.
    """

    share: float
    features: int
    estimator: BaseEstimator
    inverse: float | None = None


class Features(nn.Module):
    """What comes before the estimators of a model.

    Args:
        model: An `EstimatorClassifier`, or a `Committee` with some.
        window: That it hears.
    """

    def __init__(self, model: LightningModule, window: Window) -> None:
        super().__init__()
        self.cut = Windows(window)
        self.members = nn.ModuleList(members(model))
        self.shares, self.first = [1.0], [0]
        if isinstance(model, Committee):
            self.shares, self.first = model.shares, model.first
        asked = [isinstance(member, EstimatorClassifier) for member in self.members]
        self.networks = [number for number, classical in enumerate(asked) if not classical]
        places = zip(self.first, asked, strict=True)
        self.frontends = sorted({place for place, classical in places if classical})

    def forward(self, waveform: Tensor) -> tuple[Tensor, ...]:
        """Compute what waveforms (batch, samples) give the estimators.

        Returns:
            The shares of all windows in the mean of each recording, (batch, windows); features
            (windows, features) of each front end of an estimator; and where there are networks,
            their part of the average, (windows, classes).
        """
        windows, shares = self.cut(waveform)
        features = {place: self.members[place].frontend(windows) for place in {*self.first}}
        part = [
            self.shares[number] * self.members[number].probabilities(features[self.first[number]])
            for number in self.networks
        ]
        return (
            shares,
            *(features[place] for place in self.frontends),
            *([sum(part)] if part else []),
        )

    def leaves(self) -> list[Leaf]:
        """List the estimators, down to those that skl2onnx converts."""
        return [
            leaf
            for share, place, member in zip(self.shares, self.first, self.members, strict=True)
            if isinstance(member, EstimatorClassifier)
            for leaf in _leaves(member.estimator, share, place)
        ]


class Average(nn.Module):
    """What comes after the estimators of a model.

    Args:
        leaves: The estimators.
        temperature: By which the mean over windows is tempered; None for none.
    """

    def __init__(self, leaves: Sequence[Leaf], temperature: float | None) -> None:
        super().__init__()
        self.leaves = leaves
        self.temperature = temperature

    def forward(self, shares: Tensor, *parts: Tensor) -> Tensor:
        """Return the probabilities (batch, classes).

        Args:
            shares: Of windows in the mean of each recording, (batch, windows).
            parts: What each leaf gives, (windows, classes), and the networks' part if there is one.
        """
        total = sum(part.double() for part in parts[len(self.leaves) :])
        for leaf, part in zip(self.leaves, parts, strict=False):
            part = part.double()
            if leaf.inverse is not None:
                part = (part * leaf.inverse).softmax(1)
            total = total + leaf.share * part
        return temper(shares.double() @ total, self.temperature).float()


def members(model: LightningModule) -> Sequence[LightningModule]:
    """Return the models whose average a model is, or itself."""
    return model.members if isinstance(model, Committee) else [model]


def check(model: LightningModule) -> None:
    """Refuse a model with a part that no graph can hold.

    Raises:
        ValueError: It names the part.
    """
    for member in members(model):
        if isinstance(member.frontend, OpenSmile):
            raise ValueError(
                "a library outside of any graph, openSMILE, computes the features of this model:"
                " expected a front end of ser, such as frontend=functionals"
            )
        if isinstance(member.frontend, Encoder):
            raise ValueError(
                "an encoder gives the features of this model: its weights are not in the"
                " checkpoint, and it hears a clip without padding, which no graph of windows can;"
                " expected a spectral front end, such as frontend=mfcc"
            )
        if isinstance(member, EstimatorClassifier):
            list(_leaves(member.estimator, 1.0, 0))


def build(model: LightningModule, window: Window) -> ModelProto:
    """Build the graph of a model and its window.

    Args:
        model: In eval mode on the CPU.
        window: That it hears.

    Returns:
        `waveform` (batch, samples) in -1..1 -> `probabilities` (batch, classes), float32.

    Raises:
        ValueError: A part of it has no graph.
    """
    check(model)
    for name in ("onnx_ir", "onnxscript"):  # which tell each step
        logging.getLogger(name).setLevel(logging.WARNING)
    batch, samples, windows = Dim("batch"), Dim("samples"), Dim("windows")
    example = torch.linspace(-0.5, 0.5, 4 * window.samples).reshape(2, -1)
    shapes = ({0: batch, 1: samples},)
    if not any(isinstance(member, EstimatorClassifier) for member in members(model)):
        scores = Scores(model, window)
        return _export(scores, (example,), shapes, ["waveform"], ["probabilities"])
    front = Features(model, window)
    leaves = front.leaves()
    outputs = [f"features_{place}" for place in front.frontends]
    networks = ["networks"] if front.networks else []
    whole = _export(front, (example,), shapes, ["waveform"], ["shares", *outputs, *networks])
    parts = []
    for number, leaf in enumerate(leaves):
        taken, size = f"features_{leaf.features}", front.members[leaf.features].frontend.features
        parts.append(f"leaf_{number}/probabilities")
        whole = compose.merge_models(
            whole,
            _with_prefix(_convert(leaf, size), f"leaf_{number}/"),
            [(taken, f"leaf_{number}/features")],
            outputs=["shares", *outputs, *networks, *parts],
        )
    taken = ["shares", *parts, *networks]
    average = _export(
        Average(leaves, model.temperature),
        # Tensors of their own: of one that is given twice the graph has one input.
        (torch.full((2, 5), 0.2), *torch.full((len(taken) - 1, 5, len(model.classes)), 0.2)),
        ({0: batch, 1: windows}, tuple({0: windows} for _ in taken[1:])),
        [f"of_{name}" for name in taken],
        ["probabilities"],
    )
    joined = compose.merge_models(
        whole,
        _with_prefix(average, "average/", outputs=False),
        [(name, f"average/of_{name}") for name in taken],
        outputs=["probabilities"],
    )
    return _with_opsets(joined)


def _leaves(estimator: BaseEstimator, share: float, features: int) -> Iterator[Leaf]:
    """Yield the estimators whose weighted mean an estimator is.

    Raises:
        ValueError: One of them has no converter.
    """
    if isinstance(estimator, Pipeline):
        for leaf in _leaves(estimator[-1], share, features):
            yield replace(leaf, estimator=make_pipeline(*estimator[:-1], leaf.estimator))
    elif isinstance(estimator, VotingClassifier):
        weights = estimator.weights or [1.0] * len(estimator.estimators_)
        for weight, voter in zip(weights, estimator.estimators_, strict=True):
            yield from _leaves(voter, share * weight / sum(weights), features)
    elif isinstance(estimator, CalibratedClassifierCV) and estimator.method == "temperature":
        for each in estimator.calibrated_classifiers_:
            if not hasattr(each.estimator, "decision_function"):
                raise ValueError(
                    f"{type(each.estimator).__name__} is calibrated by its probabilities: expected"
                    " an estimator with decision values, such as SVC"
                )
            inverse = float(each.calibrators[0].beta_)
            portion = share / len(estimator.calibrated_classifiers_)
            yield Leaf(portion, features, each.estimator, inverse)
    elif type(estimator).__module__.startswith("sklearn."):
        yield Leaf(share, features, estimator)
    else:
        raise ValueError(
            f"skl2onnx has no converter for {type(estimator).__name__}, a part of this model:"
            " expected estimators of scikit-learn, such as model=svm"
        )


def _convert(leaf: Leaf, features: int) -> ModelProto:
    """Convert an estimator: `features` (windows, features) -> `probabilities`, or decision values.

    Raises:
        ValueError: skl2onnx cannot.
    """
    options = {"zipmap": False} | ({} if leaf.inverse is None else {"raw_scores": True})
    try:
        with warnings.catch_warnings():  # skl2onnx asks every SVC for what only some will have
            warnings.simplefilter("ignore", FutureWarning)
            found = to_onnx(
                leaf.estimator,
                initial_types=[("features", FloatTensorType([None, features]))],
                options={id(leaf.estimator): options},
                target_opset={"": OPSET, "ai.onnx.ml": 3},
            )
    except Exception as error:  # a converter that lacks something may raise anything
        raise ValueError(
            f"skl2onnx cannot convert {leaf.estimator} ({reason(error)}): expected another model,"
            " such as svm, logistic or mlp"
        ) from error
    return _with_opsets(found)


def _export(
    module: nn.Module,
    example: tuple[Tensor, ...],
    shapes: tuple,
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> ModelProto:
    """Export a module of torch.

    Raises:
        ValueError: An operation of it has no graph.
    """
    try:
        with warnings.catch_warnings():
            # Axes that are equal have one name.
            warnings.filterwarnings("ignore", message="# The axis name")
            # Recurrent layers of torch itself do.
            warnings.filterwarnings("ignore", message=".*were assigned during export")
            program = torch.onnx.export(
                module.eval(),
                example,
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                dynamic_shapes=shapes,
                input_names=inputs,
                output_names=outputs,
            )
    except Exception as error:  # torch raises anything, and says why at its end
        first = error
        while first.__cause__ is not None:
            first = first.__cause__
        raise ValueError(
            f"torch cannot export this model as a graph ({reason(first)}): expected another front"
            " end or network"
        ) from error
    return program.model_proto


def _with_prefix(model: ModelProto, prefix: str, outputs: bool = True) -> ModelProto:
    """Return a model whose names begin with a prefix, in the version of those of torch."""
    found = compose.add_prefix(model, prefix, rename_outputs=outputs)
    found.ir_version = IR
    return found


def _with_opsets(model: ModelProto) -> ModelProto:
    """Return a model that names each set of operators once, which those that join them do not."""
    versions = {each.domain: each.version for each in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(make_opsetid(*each) for each in sorted(versions.items()))
    return model
