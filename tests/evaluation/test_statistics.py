"""Numbers by hand, scikit-learn and SciPy as oracles, and simulated speakers of known recall."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from ser.evaluation.metrics import scores
from ser.evaluation.statistics import (
    SCORES,
    holm,
    lowest_p,
    paired_difference,
    seed_spread,
    speaker_interval,
    why_unknown,
)

CLIPS = np.array([4, 8, 8, 8, 8, 8, 8, 8])
"""Of a speaker of RAVDESS's speech, by class: neutral has one intensity."""
RECALLS = np.linspace(0.35, 0.9, 8)
"""Of the population, by class."""


def speaker_recalls(
    recalls: np.ndarray, speakers: int, generator: np.random.Generator
) -> np.ndarray:
    """Draw recalls (speakers, classes) of exactly these means, by who is easy and who is not."""
    easy = generator.standard_normal((speakers, 1)) + generator.standard_normal((speakers, 8))
    return stats.beta.ppf(stats.norm.cdf(easy / np.sqrt(2)), 5 * recalls, 5 * (1 - recalls))


def predict(recalls: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Name each clip of each speaker rightly as often as its recall says."""
    chances = np.repeat(recalls, CLIPS, axis=1).ravel()
    wrong = generator.integers(1, 8, len(chances))
    return (truth_of(len(recalls)) + wrong * (generator.random(len(chances)) > chances)) % 8


def truth_of(speakers: int) -> np.ndarray:
    return np.tile(np.repeat(np.arange(8), CLIPS), speakers)


def speakers_of(count: int) -> np.ndarray:
    return np.repeat(np.arange(count), CLIPS.sum())


def uar(truth: np.ndarray, right: np.ndarray) -> Callable[[np.ndarray], float]:
    def score(chosen: np.ndarray) -> float:
        return np.mean(np.bincount(truth[chosen], right[chosen]) / np.bincount(truth[chosen]))

    return score


@pytest.fixture
def pair() -> tuple[np.ndarray, ...]:
    """Truth, two sets of predictions and the speakers of seven speakers."""
    generator = np.random.default_rng(3)
    a, b = (predict(speaker_recalls(RECALLS, 7, generator), generator) for _ in "ab")
    return truth_of(7).astype(str), a.astype(str), b.astype(str), speakers_of(7)


def test_for_a_mean_over_speakers_it_is_the_ordinary_t_interval():
    values = np.array([0.4, 0.5, 0.55, 0.8])
    speakers = np.repeat(list("abcd"), 10)
    clips = np.repeat(values, 10)
    low, high = speaker_interval(lambda chosen: clips[chosen].mean(), speakers)
    expected = stats.t.interval(0.95, 3, values.mean(), values.std(ddof=1) / 2)
    assert (low, high) == pytest.approx(expected)


def test_without_spread_over_speakers_an_interval_is_unknown():
    speakers, truth = np.repeat(list("abc"), 2), np.array(list("xyxyxy"))
    for score in (0.7, 1.0, 1 / 3):
        assert speaker_interval(lambda chosen, score=score: score, speakers) is None
    assert why_unknown(speakers) == "no spread over speakers"
    assert why_unknown(speakers[:4]) == "fewer than 3 speakers"
    constant = np.full(6, "x")
    found = paired_difference(truth, truth, constant, speakers)["uar"]  # the same for all three
    assert (found["difference"], found["interval"]) == (0.5, None)
    assert found["unknown"] == "no spread over speakers"
    assert seed_spread(truth, [constant, constant], speakers, "uar")["speaker_se"] is None


def test_bounds_stay_within_a_score():
    speakers = np.array(list("abc"))
    clips = np.array([1.0, 1.0, 0.0])
    assert speaker_interval(lambda chosen: clips[chosen].mean(), speakers) == [0.0, 1.0]


def test_below_three_speakers_there_is_no_interval():
    assert speaker_interval(lambda chosen: 0.5, np.array(["a", "a", "b"])) is None
    truth, a, speakers = np.array(["x", "y"]), np.array(["x", "x"]), np.array(["1", "2"])
    values = paired_difference(truth, a, truth, speakers)["uar"]
    assert (values["interval"], values["minimum_detectable"]) == (None, None)
    assert (values["difference"], values["p"]) == (-0.5, 1)
    assert seed_spread(truth, [a], speakers, "uar") == {
        "mean": 0.5,
        "seed_sd": None,
        "speaker_se": None,
    }


def test_unequal_speakers_by_hand():
    # Right: 15 of 30 clips of a, 6, 4 and 5 of 10 of the others; 30 of 60 in all.
    speakers = np.repeat(list("abcd"), [30, 10, 10, 10])
    right = np.concatenate([np.arange(n) < k for n, k in ((30, 15), (10, 6), (10, 4), (10, 5))])
    without = np.array([15 / 30, 24 / 50, 26 / 50, 25 / 50])
    error = np.sqrt(3 / 4 * np.sum((without - 0.5) ** 2))
    # 60^2 / (900 + 3 x 100) = 3 effective speakers.
    reach = stats.t.ppf(0.975, 2) * error
    found = speaker_interval(lambda chosen: right[chosen].mean(), speakers)
    assert found == pytest.approx([0.5 - reach, 0.5 + reach])
    crowded = np.repeat(list("abcd"), [31, 10, 10, 10])  # 2.9 effective speakers
    assert speaker_interval(lambda chosen: 0.5, crowded) is None


def test_the_interval_keeps_its_word_where_two_of_the_speakers_have_most_clips():
    generator = np.random.default_rng(0)
    clips = np.array([8] * 24 + [60] * 2)
    speakers = np.repeat(np.arange(26), clips)
    held = 0
    for _ in range(1000):
        recalls = generator.beta(5 * 0.6, 5 * 0.4, 26)
        right = generator.random(len(speakers)) < np.repeat(recalls, clips)
        low, high = speaker_interval(lambda chosen, right=right: right[chosen].mean(), speakers)
        held += low <= 0.6 <= high
    assert 0.93 <= held / 1000 <= 0.98


def test_a_difference_stays_within_its_bounds():
    truth = np.array(list("xyxyxyxyxyxy"))
    wrong = np.where(truth == "x", "y", "x")
    wrong[0] = "x"
    found = paired_difference(truth, truth, wrong, np.repeat(range(6), 2))["accuracy"]
    assert found["interval"][1] == 1
    other = paired_difference(truth, wrong, truth, np.repeat(range(6), 2))["accuracy"]
    assert other["interval"][0] == -1


@pytest.mark.parametrize(
    ("speakers", "least", "most"), [(4, 0.9, 1), (5, 0.9, 1), (20, 0.93, 0.97), (24, 0.93, 0.97)]
)
def test_the_interval_holds_the_truth_as_often_as_it_says(speakers: int, least: float, most: float):
    generator = np.random.default_rng(speakers)
    held = 0
    for _ in range(1000):
        right = predict(speaker_recalls(RECALLS, speakers, generator), generator) == truth_of(
            speakers
        )
        low, high = speaker_interval(uar(truth_of(speakers), right), speakers_of(speakers))
        held += low <= RECALLS.mean() <= high
    assert least <= held / 1000 <= most


def test_scores_are_those_of_scikit_learn(pair):
    truth, a, b, _ = pair
    b[:50] = "never true"
    found, expected_a, expected_b = paired_difference(*pair), scores(truth, a), scores(truth, b)
    for score in SCORES:
        assert found[score]["a"] == pytest.approx(expected_a[score])
        assert found[score]["b"] == pytest.approx(expected_b[score])
        assert found[score]["difference"] == pytest.approx(expected_a[score] - expected_b[score])


def test_p_is_that_of_scipy_where_a_score_is_a_mean_over_speakers(pair):
    truth, a, b, speakers = pair
    by_speaker = [
        [np.mean((prediction == truth)[speakers == name]) for name in range(7)]
        for prediction in (a, b)
    ]
    expected = stats.permutation_test(
        by_speaker, lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
    )
    found = paired_difference(*pair)["accuracy"]
    assert found["p"] == pytest.approx(expected.pvalue)
    differences = np.subtract(*by_speaker)
    error = differences.std(ddof=1) / np.sqrt(7)
    interval = stats.t.interval(0.95, 6, differences.mean(), error)
    assert found["interval"] == pytest.approx(interval)
    reach = (stats.t.ppf(0.975, 6) + stats.t.ppf(0.8, 6)) * error
    assert found["minimum_detectable"] == pytest.approx(reach)
    many = paired_difference(*pair, swaps=100)["accuracy"]["p"]  # too few for all 128
    assert many == pytest.approx(expected.pvalue, abs=0.15)
    assert many * 101 == pytest.approx(round(many * 101))


def test_macro_f1_is_swapped_and_left_out_as_scikit_learn_would(pair):
    truth, _, _, speakers = pair
    kept = (truth != "0") | (speakers == 6)  # without the last speaker a class is gone
    truth, a, b, speakers = (column[kept] for column in pair)

    def difference(chosen: np.ndarray, swapped: np.ndarray) -> float:
        first, second = np.where(swapped, b, a)[chosen], np.where(swapped, a, b)[chosen]
        return np.subtract(*(scores(truth[chosen], x)["macro_f1"] for x in (first, second)))

    everyone = np.ones(len(truth), bool)
    swaps = [np.isin(speakers, [n for n in range(7) if way >> n & 1]) for way in range(128)]
    chance = np.array([difference(everyone, swapped) for swapped in swaps])
    found = paired_difference(truth, a, b, speakers)["macro_f1"]
    assert found["p"] == np.mean(np.abs(chance) > abs(found["difference"]) - 1e-9)
    without = np.array([difference(speakers != name, ~everyone) for name in range(7)])
    clips = np.bincount(speakers)
    freedom = clips.sum() ** 2 / np.sum(clips**2) - 1
    assert 5 < freedom < 6
    reach = stats.t.ppf(0.975, freedom) * np.sqrt(6 / 7 * np.sum((without - without.mean()) ** 2))
    low, high = found["difference"] - reach, found["difference"] + reach
    assert found["interval"] == pytest.approx([low, high])


@pytest.mark.parametrize("swaps", [9_999, 99])
def test_the_other_way_round_it_is_the_negative(pair, swaps: int):
    truth, a, b, speakers = pair
    one = paired_difference(truth, a, b, speakers, swaps)
    other = paired_difference(truth, b, a, speakers, swaps)
    for score in SCORES:
        assert other[score]["difference"] == -one[score]["difference"]
        assert other[score]["interval"] == pytest.approx([-x for x in one[score]["interval"][::-1]])
        assert other[score]["p"] == one[score]["p"]


def test_what_is_the_same_does_not_differ(pair):
    truth, a, _, speakers = pair
    for values in paired_difference(truth, a, a, speakers).values():
        assert (values["difference"], values["interval"], values["p"]) == (0, None, 1)
        assert values["minimum_detectable"] is None


def test_the_lowest_p_is_reached_where_all_speakers_agree():
    truth = np.array(list("xyxyxyxy"))
    found = paired_difference(truth, truth, truth[::-1], np.repeat(range(4), 2))
    assert [values["p"] for values in found.values()] == [lowest_p(4)] * 3 == [0.125] * 3
    # No difference however large would be found.
    assert [values["minimum_detectable"] for values in found.values()] == [None] * 3


@pytest.mark.slow
@pytest.mark.parametrize("speakers", [8, 20, 24])
def test_without_a_difference_one_is_found_in_a_twentieth_of_draws(speakers: int):
    # Other classes are hard for b; its UAR is the same.
    rejected, held = simulate(speakers, RECALLS, RECALLS[::-1], draws=1000)
    assert 0.03 <= rejected <= 0.07
    assert 0.93 <= held <= 0.97


def test_a_clear_difference_is_found():
    rejected, held = simulate(20, RECALLS + 0.09, RECALLS - 0.09, draws=200)
    assert rejected > 0.9
    assert held > 0.9


def simulate(speakers: int, a: np.ndarray, b: np.ndarray, draws: int) -> tuple[float, float]:
    """Tell how often p of UAR is at most 0.05, and how often the interval holds the truth."""
    generator = np.random.default_rng(speakers)
    rejected = held = 0
    for _ in range(draws):
        predictions = [
            predict(speaker_recalls(recalls, speakers, generator), generator) for recalls in (a, b)
        ]
        values = paired_difference(
            truth_of(speakers), *predictions, speakers_of(speakers), swaps=499
        )
        low, high = values["uar"]["interval"]
        rejected += values["uar"]["p"] <= 0.05
        held += low <= a.mean() - b.mean() <= high
    return rejected / draws, held / draws


def test_holm_by_hand():
    # 3 x 0.01, 2 x 0.04, then 1 x 0.05 raised to what came before.
    assert holm([0.04, 0.01, 0.05]) == pytest.approx([0.08, 0.03, 0.08])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([0.2]) == [0.2]
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.2, float("nan")])


def test_seeds_and_speakers_are_two_spreads(pair):
    truth, a, b, speakers = pair
    found = seed_spread(truth, [a, b], speakers, "uar")
    values = [scores(truth, prediction)["uar"] for prediction in (a, b)]
    assert found["mean"] == pytest.approx(np.mean(values))
    assert found["seed_sd"] == pytest.approx(np.std(values, ddof=1))
    # Every speaker has as many clips of each class: UAR is a mean over speakers.
    by_speaker = [
        np.mean([scores(truth[chosen], x[chosen])["uar"] for x in (a, b)])
        for chosen in (speakers == name for name in range(7))
    ]
    assert found["speaker_se"] == pytest.approx(np.std(by_speaker, ddof=1) / np.sqrt(7))


def test_input_that_does_not_fit_is_named(pair):
    truth, a, b, speakers = pair
    with pytest.raises(ValueError, match="have 420, 419 and 420 clips"):
        paired_difference(truth, a[1:], b, speakers)
    with pytest.raises(ValueError, match="have 0, 0 and 0 clips"):
        paired_difference(*np.empty((4, 0), str))
    with pytest.raises(ValueError, match="score 'ece' is unknown: expected one of accuracy, uar"):
        seed_spread(truth, [a], speakers, "ece")
    with pytest.raises(ValueError, match="one seed or more"):
        seed_spread(truth, [], speakers, "uar")
