import numpy as np
import pytest
from scipy import stats

from ser.statistics import actor_interval


def test_for_a_mean_over_actors_it_is_the_ordinary_t_interval():
    values = np.array([0.4, 0.5, 0.55, 0.8])
    actors = np.repeat(list("abcd"), 10)
    clips = np.repeat(values, 10)
    low, high = actor_interval(lambda chosen: clips[chosen].mean(), actors)
    expected = stats.t.interval(0.95, 3, values.mean(), values.std(ddof=1) / 2)
    assert (low, high) == pytest.approx(expected)


def test_actors_who_agree_leave_no_doubt():
    actors = np.repeat(list("abc"), 2)
    assert actor_interval(lambda chosen: 0.7, actors) == pytest.approx([0.7, 0.7])


def test_bounds_stay_within_a_score():
    actors = np.array(list("abc"))
    clips = np.array([1.0, 1.0, 0.0])
    assert actor_interval(lambda chosen: clips[chosen].mean(), actors) == [0.0, 1.0]


def test_below_three_actors_there_is_none():
    assert actor_interval(lambda chosen: 0.5, np.array(["a", "a", "b"])) is None
