"""Intervals over actors: the clips of one actor are no independent evidence."""

from collections.abc import Callable

import numpy as np
from scipy import stats

METHOD = "95 % t interval of the jackknife over actors"
FEWEST_ACTORS = 3


def actor_interval(
    score: Callable[[np.ndarray], float], actors: np.ndarray, level: float = 0.95
) -> list[float] | None:
    """Bound a score in 0..1 by how much it depends on who was tested.

    Each actor is left out once; the pseudo-values give a t interval around the score of all
    clips. For a mean over actors this is the ordinary t interval (Tukey 1958; Miller 1974,
    Biometrika 61:1).

    Args:
        score: Scores the clips chosen by a mask (clips,).
        actors: Who speaks in each clip, (clips,).
        level: Coverage aimed at.

    Returns:
        [low, high], or None below three actors.
    """
    names = np.unique(actors)
    count = len(names)
    if count < FEWEST_ACTORS:
        return None
    whole = score(np.ones(len(actors), bool))
    without = np.array([score(actors != name) for name in names])
    spread = np.sqrt((count - 1) / count * np.sum((without - without.mean()) ** 2))
    reach = stats.t.ppf((1 + level) / 2, count - 1) * spread
    return [max(0.0, whole - reach), min(1.0, whole + reach)]
