"""Calibration: how far probabilities are the shares of right answers, and when to give none."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

BINS = 15
"""Of the reliability diagram and the expected calibration error."""

RANGE = (0.05, 20.0)
"""The lowest and the highest temperature that is fitted or read."""

SMALLEST = 1e-15
"""Probability below which a logarithm is taken of this one: some models give 0."""

LEAST = 1e-300
"""The same of what has been tempered, which divides a logarithm by `RANGE[0]` at most."""


@dataclass(frozen=True)
class Calibration:
    """What clips of the validation speakers tell of the probabilities of a model.

    Attributes:
        temperature: By which the logarithms of its probabilities are divided.
        confidences: Of its answers on those clips, so divided, (clips,).
        correct: Whether these were right, (clips,).
    """

    temperature: float
    confidences: tuple[float, ...]
    correct: tuple[bool, ...]

    @classmethod
    def fit(cls, probabilities: np.ndarray, truth: np.ndarray) -> "Calibration":
        """Fit the temperature that makes the truth most likely (Guo et al. 2017, ICML).

        Args:
            probabilities: Of clips that the model was not fitted to, (clips, classes).
            truth: Their classes as indices, (clips,).
        """
        clips = range(len(truth))

        def loss(logarithm: float) -> float:
            scaled = _logarithms(probabilities) / np.exp(logarithm)
            return -log_softmax(scaled, axis=1)[clips, truth].mean()

        temperature = float(np.exp(minimize_scalar(loss, bounds=np.log(RANGE)).x))
        scaled = temper(probabilities, temperature)
        right = scaled.argmax(axis=1) == truth
        return cls(temperature, tuple(scaled.max(axis=1).tolist()), tuple(right.tolist()))

    @classmethod
    def read(cls, content: Mapping | None, most: int) -> "Calibration | None":
        """Read what `content` put into a checkpoint.

        Args:
            content: Of a file, which may hold anything.
            most: Clips that there may be.

        Raises:
            ValueError: It holds other than that.
        """
        if content is None:
            return None
        temperature, confidences, correct = (content[key] for key in cls.__annotations__)
        if not isinstance(temperature, float) or not RANGE[0] <= temperature <= RANGE[1]:
            raise ValueError("its temperature is none")
        if not 0 < len(confidences) == len(correct) <= most:
            raise ValueError("its calibration is of other clips")
        if not all(isinstance(each, float) and 0 <= each <= 1 for each in confidences):
            raise ValueError("the confidences of its calibration are none")
        return cls(temperature, tuple(confidences), tuple(map(bool, correct)))

    def content(self) -> dict:
        """Return what a checkpoint holds: plain containers."""
        lists = {"confidences": list(self.confidences), "correct": list(self.correct)}
        return {"temperature": self.temperature} | lists

    def threshold(self, risk: float) -> float:
        """Return the least confidence with which to answer, so that few answers are wrong.

        As much is answered as keeps the risk on the validation clips (as Geifman & El-Yaniv 2017,
        NeurIPS). It is estimated by the rule of succession, (wrong + 1) / (answers + 2): a single
        right answer is no evidence that there is none.

        Args:
            risk: Share of wrong answers to accept.

        Returns:
            A probability; 0 where all answers are right often enough, infinity where none are.
        """
        order = np.argsort(self.confidences)[::-1]
        confidences, correct = np.array(self.confidences)[order], np.array(self.correct)[order]
        answers = np.arange(1, len(correct) + 1)
        risks = (np.cumsum(~correct) + 1) / (answers + 2)
        last = np.append(confidences[1:] < confidences[:-1], True)  # of those equally confident
        kept = np.flatnonzero(last & (risks <= risk))
        if not len(kept):
            return float("inf")
        return 0.0 if kept[-1] == len(correct) - 1 else float(confidences[kept[-1]])


def temper(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Divide the logarithms of probabilities (clips, classes) by a temperature."""
    return softmax(_logarithms(probabilities) / temperature, axis=1)


def untemper(probabilities: np.ndarray, temperatures: np.ndarray) -> np.ndarray:
    """Return what `temper` was given, from its result (clips, classes) and its value for each."""
    return softmax(_logarithms(probabilities, LEAST) * temperatures.reshape(-1, 1), axis=1)


def answers(probabilities: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the confidence of each answer, and whether it is right: (clips,) both.

    Args:
        probabilities: (clips, classes).
        truth: Classes as indices, (clips,).
    """
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == truth


def ece(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Return the expected calibration error: |confidence - accuracy| over equal bins."""
    confidences, correct = answers(probabilities, truth)
    gaps = np.bincount(_bins(confidences), confidences - correct, minlength=BINS)
    return float(np.abs(gaps).sum() / len(truth))


def brier(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Return the squared error summed over classes, 0 to 2 (Brier 1950)."""
    named = probabilities[range(len(truth)), truth]
    return float((np.square(probabilities).sum(axis=1) - 2 * named + 1).mean())


def log_loss(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean negative logarithm of the true class's probability, in nats."""
    return float(-_logarithms(probabilities[range(len(truth)), truth]).mean())


def aurc(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of wrong answers averaged over all coverages (Geifman et al. 2019, ICLR)."""
    return float(risk_coverage(*answers(probabilities, truth))[1].mean())


MEASURES = {"brier": (brier, 2.0), "log_loss": (log_loss, np.inf), "aurc": (aurc, 1.0)}
"""By name, what measures how well probabilities fit the true classes, lower is better, and the
highest value. The ECE is none of them: over bins it is never below 0, so that its expectation lies
above the true one, and an interval of it would not cover that."""


def reliability(confidences: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return mean confidence, accuracy and number of clips of each bin that holds any."""
    bins = _bins(confidences)
    clips = np.bincount(bins, minlength=BINS)
    sums = [np.bincount(bins, values, minlength=BINS) for values in (confidences, correct)]
    return *(values[clips > 0] / clips[clips > 0] for values in sums), clips[clips > 0]


def risk_coverage(confidences: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coverages (clips,), the most confident first, and the share of wrong answers at each.

    Answers of one confidence are given together, so that the risk of all is that of the last.

    Args:
        confidences: Of the answers, (clips,).
        correct: Whether they are right, (clips,).
    """
    order = np.argsort(-confidences, kind="stable")
    answers = np.arange(1, len(order) + 1)
    ends = np.searchsorted(-confidences[order], -confidences[order], side="right") - 1
    return answers / len(order), (np.cumsum(~correct[order]) / answers)[ends]


def _bins(confidences: np.ndarray) -> np.ndarray:
    return np.minimum((confidences * BINS).astype(int), BINS - 1)


def _logarithms(probabilities: np.ndarray, smallest: float = SMALLEST) -> np.ndarray:
    return np.log(np.maximum(np.asarray(probabilities, float), smallest))
