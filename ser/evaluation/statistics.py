"""Intervals and tests over speakers: the clips of one speaker are no independent evidence."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy import stats

METHOD = (
    "95 % t interval of the jackknife over speakers; degrees of freedom: the effective number of"
    " speakers, (sum n)^2 / sum n^2 over their clips n, less one"
)
FEWEST_SPEAKERS = 3
ROUNDING = 1e-12
"""A standard error up to this is zero: the score is the same whichever speaker is left out."""
SCORES = ("accuracy", "uar", "macro_f1")


def speakers_of(clips: pd.DataFrame) -> np.ndarray:
    """Return who speaks in each clip, named with the corpus: (clips,)."""
    return (clips.corpus.astype(str) + "/" + clips.speaker.astype(str)).to_numpy(str)


def speaker_interval(
    score: Callable[[np.ndarray], float],
    speakers: np.ndarray,
    level: float = 0.95,
    highest: float = 1.0,
) -> list[float] | None:
    """Return the interval of a score from 0 on by how much it depends on who was tested.

    Each speaker is left out once; the pseudo-values give a t interval around the score of all
    clips. For a mean over speakers this is the ordinary t interval (Tukey 1958; Miller 1974,
    Biometrika 61:1). Speakers with many more clips than the others count as fewer speakers (the
    effective number of Kish 1965, Survey Sampling): two speakers of TESS beside RAVDESS's 24.

    Args:
        score: Scores the clips chosen by a mask (clips,).
        speakers: Who speaks in each clip, (clips,).
        level: Coverage aimed at.
        highest: Value that the score can take.

    Returns:
        [low, high], or None where nothing is known of the spread, see `why_unknown`.
    """
    names, clips = np.unique(speakers, return_counts=True)
    effective = _effective(clips)
    if effective < FEWEST_SPEAKERS:
        return None
    whole = score(np.ones(len(speakers), bool))
    error = _jackknife_error(np.array([score(speakers != name) for name in names]))
    if error <= ROUNDING:
        return None
    reach = stats.t.ppf((1 + level) / 2, effective - 1) * error
    return [max(0.0, float(whole - reach)), min(highest, float(whole + reach))]


def why_unknown(speakers: np.ndarray) -> str:
    """Return why a score of the clips of these speakers (clips,) has no interval."""
    if _effective(np.unique(speakers, return_counts=True)[1]) < FEWEST_SPEAKERS:
        return f"fewer than {FEWEST_SPEAKERS} speakers"
    return "no spread over speakers"


def paired_difference(
    truth: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    speakers: np.ndarray,
    swaps: int = 9_999,
    seed: int = 0,
) -> dict[str, dict[str, float | list[float] | None]]:
    """Compare two sets of predictions of the same clips.

    The interval is the jackknife's, as in `speaker_interval`. The test swaps a and b speaker by
    speaker: in all 2^speakers ways where these are no more than `swaps`, else in `swaps` random
    ways and the observed one (Fisher 1935; Phipson & Smyth 2010, Stat. Appl. Genet. Mol. Biol.
    9:39).

    Args:
        truth: Class of each clip, (clips,).
        a: Class predicted by the one, (clips,).
        b: Class predicted by the other, (clips,).
        speakers: Who speaks in each clip, (clips,).
        swaps: Number of random swaps.
        seed: Of the random swaps.

    Returns:
        For accuracy, uar and macro_f1 (over the classes in `truth`): `a`, `b`, `difference` a - b,
        its 95 % `interval`, two-sided `p`, and `minimum_detectable`, the difference that as many
        speakers would show in 80 % of repetitions at the 5 % level. The interval is None where
        nothing is known of the spread: `unknown` says why. So is minimum_detectable, and where no p
        reaches 5 % (see `lowest_p`).

    Raises:
        ValueError: The arrays are empty or differ in length.
    """
    counts = np.stack([_counts(truth, prediction, speakers) for prediction in (a, b)])
    total = counts.sum(axis=1)  # (2, 3, classes)
    of_a, of_b = _scores(total)
    difference = of_a - of_b
    count = counts.shape[1]
    moved = np.tensordot(_swaps(count, swaps, seed), counts[1] - counts[0], axes=1)
    chance = np.subtract(*_scores(np.stack([total[0] + moved, total[1] - moved])))
    # Two swaps of the same difference may disagree in its last digit.
    p = np.mean(np.abs(chance) >= np.abs(difference) - 1e-12, axis=0)
    interval = detectable = [None] * len(SCORES)
    effective = _effective(counts[0, :, 0].sum(axis=-1))
    if effective >= FEWEST_SPEAKERS:
        error = _jackknife_error(np.subtract(*_scores(total[:, None] - counts)))
        reach = stats.t.ppf(0.975, effective - 1) * error
        known = error > ROUNDING
        bounds = np.clip([difference - reach, difference + reach], -1, 1).T.tolist()
        interval = [pair if there else None for pair, there in zip(bounds, known, strict=True)]
        if lowest_p(count) <= 0.05:
            found = reach + stats.t.ppf(0.8, effective - 1) * error
            detectable = np.where(known, found, None).tolist()
    columns = {
        "a": of_a.tolist(),
        "b": of_b.tolist(),
        "difference": difference.tolist(),
        "interval": interval,
        "unknown": [None if pair else why_unknown(speakers) for pair in interval],
        "p": p.tolist(),
        "minimum_detectable": detectable,
    }
    return {
        score: dict(zip(columns, values, strict=True))
        for score, *values in zip(SCORES, *columns.values(), strict=True)
    }


def lowest_p(speakers: int) -> float:
    """Return the lowest p that swapping two models by speaker can reach: 2 of 2^speakers ways."""
    return 2 / 2**speakers


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values for being several (Holm 1979, Scand. J. Statist. 6:65), in their order.

    Raises:
        ValueError: A value is not between 0 and 1.
    """
    p = np.asarray(p_values, float)
    if not np.all((p >= 0) & (p <= 1)):
        raise ValueError(f"p values {list(p_values)}: expected numbers between 0 and 1")
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(adjusted, 1).tolist()


def seed_spread(
    truth: np.ndarray, predictions: Sequence[np.ndarray], speakers: np.ndarray, score: str
) -> dict[str, float | None]:
    """Return the spread of a score over seeds beside that over speakers.

    Args:
        truth: Class of each clip, (clips,).
        predictions: Classes predicted after training with each seed, (seeds, clips).
        speakers: Who speaks in each clip, (clips,).
        score: accuracy, uar or macro_f1.

    Returns:
        `mean` over seeds, standard deviation over seeds `seed_sd` (None for one seed), and the
        jackknife's standard error of the mean over speakers `speaker_se` (None below three
        speakers, and where they show no spread).

    Raises:
        ValueError: The score is unknown, there is no seed, or arrays are empty or differ in length.
    """
    if score not in SCORES:
        raise ValueError(f"score {score!r} is unknown: expected one of {', '.join(SCORES)}")
    if not len(predictions):
        raise ValueError("no predictions: expected those of one seed or more")
    counts = np.stack([_counts(truth, prediction, speakers) for prediction in predictions])
    total = counts.sum(axis=1)
    column = SCORES.index(score)
    values = _scores(total)[:, column]
    error = None
    if counts.shape[1] >= FEWEST_SPEAKERS:
        without = _scores(total[:, None] - counts)[..., column]  # (seeds, speakers)
        found = float(_jackknife_error(without.mean(axis=0)))
        error = found if found > ROUNDING else None
    return {
        "mean": float(values.mean()),
        "seed_sd": float(values.std(ddof=1)) if len(values) > 1 else None,
        "speaker_se": error,
    }


def _jackknife_error(without: np.ndarray) -> np.ndarray:
    """Return the standard error of a score from its values (speakers, ...) without each speaker."""
    return np.sqrt((len(without) - 1) * without.var(axis=0))


def _effective(clips: np.ndarray) -> float:
    """Return the effective number of speakers of these numbers of clips (speakers,)."""
    return float(clips.sum() ** 2 / np.sum(clips**2))


def _swaps(speakers: int, swaps: int, seed: int) -> np.ndarray:
    """Return which speakers are swapped: (swaps, speakers) of 0 and 1."""
    if 2**speakers <= swaps:
        return (np.arange(2**speakers)[:, None] >> np.arange(speakers) & 1).astype(float)
    drawn = np.random.default_rng(seed).integers(0, 2, (swaps, speakers))
    return np.vstack([np.zeros(speakers), drawn])


def _counts(truth: np.ndarray, prediction: np.ndarray, speakers: np.ndarray) -> np.ndarray:
    """Count a speaker's clips of each class, those named rightly, and all named so.

    Returns:
        (speakers, 3, classes), the classes being those in `truth`.
    """
    lengths = len(truth), len(prediction), len(speakers)
    if len(set(lengths)) > 1 or not len(truth):
        raise ValueError(
            "truth, predictions and speakers have {}, {} and {} clips: expected the same clips in"
            " each, and at least one".format(*lengths)
        )
    classes = np.unique(truth)
    there, named = truth[:, None] == classes, prediction[:, None] == classes
    speaks = (np.unique(speakers)[:, None] == speakers).astype(float)
    return np.stack([speaks @ there, speaks @ (there & named), speaks @ named], axis=1)


def _scores(counts: np.ndarray) -> np.ndarray:
    """Compute accuracy, UAR and macro F1, (..., scores), from counts (..., 3, classes)."""
    there, right, named = np.moveaxis(counts, -2, 0)
    present = np.sum(there > 0, axis=-1)
    accuracy = right.sum(axis=-1) / there.sum(axis=-1)
    uar = np.sum(right / np.maximum(there, 1), axis=-1) / present
    macro_f1 = np.sum(2 * right / np.maximum(there + named, 1), axis=-1) / present
    return np.stack([accuracy, uar, macro_f1], axis=-1)
