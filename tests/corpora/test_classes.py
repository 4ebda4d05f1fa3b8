from dataclasses import replace

import pytest

from ser.corpora.clip import EMOTIONS
from ser.corpora.labels import Labels, in_order, label_emotions
from ser.corpora.scan import from_name


def classes(**options: object) -> list[str]:
    return list(dict.fromkeys(label_emotions(**options).values()))


def test_classes_keep_their_order_and_close_up():
    assert classes() == list(EMOTIONS)
    assert classes(drop=["sad", "calm"]) == [
        "neutral", "happy", "angry", "fearful", "disgust", "surprised"
    ]  # fmt: skip
    assert classes(keep=["sad", "happy"]) == ["happy", "sad"]


def test_a_merged_emotion_takes_the_name_and_place_of_its_target():
    labels = label_emotions(drop=["happy"], merge={"neutral": "sad", "calm": "sad"})
    assert labels == {
        "neutral": "sad", "calm": "sad", "sad": "sad", "angry": "angry", "fearful": "fearful",
        "disgust": "disgust", "surprised": "surprised",
    }  # fmt: skip
    assert classes(drop=["happy"], merge={"neutral": "sad", "calm": "sad"})[0] == "sad"
    assert classes(merge={"surprised": "neutral"}) == list(EMOTIONS[:-1])


@pytest.mark.parametrize(
    ("typo", "nearest"), [("sat", "sad"), ("Angry", "angry"), ("surprise", "surprised")]
)
@pytest.mark.parametrize("key", ["drop", "keep", "merge", "target"])
def test_a_misspelt_class_gets_the_eight_names_and_the_nearest(key: str, typo: str, nearest: str):
    option = {
        "drop": {"drop": [typo]},
        "keep": {"keep": [typo]},
        "merge": {"merge": {typo: "calm"}},
        "target": {"merge": {"calm": typo}},
    }[key]
    with pytest.raises(ValueError, match=f"{typo!r}.*{', '.join(EMOTIONS)}.*{nearest!r}"):
        label_emotions(**option)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"keep": ["sad"]}, "at least two"),
        ({"keep": ["sad", "calm"], "merge": {"sad": "calm"}}, "at least two"),
        ({"drop": ["sad"], "merge": {"sad": "calm"}}, "expected two emotions that are kept"),
        ({"drop": ["calm"], "merge": {"sad": "calm"}}, "expected two emotions that are kept"),
        ({"merge": {"sad": "calm", "calm": "neutral"}}, "a target that is not merged itself"),
        ({"merge": {"sad": "sad"}}, "a target that is not merged itself"),
        ({"merge": "calm"}, "data.merge='calm': expected pairs"),
    ],
)
def test_what_makes_no_task_is_refused(options: dict, line: str):
    with pytest.raises(ValueError, match=line):
        label_emotions(**options)


def test_a_target_of_two_parts_tells_genders_apart():
    emotions = label_emotions(keep=["sad", "calm", "neutral"], merge={"calm": "neutral"})
    sad, calm, happy = (from_name(f"03-01-0{code}-01-01-01-02") for code in (4, 2, 3))
    plain, both = Labels(emotions), Labels(emotions, "emotion_gender")
    assert plain.classes == ["neutral", "sad"]
    assert [plain.of(clip) for clip in (sad, calm, happy)] == ["sad", "neutral", None]
    assert both.classes == ["neutral_male", "neutral_female", "sad_male", "sad_female"]
    assert [both.of(clip) for clip in (sad, calm, happy)] == ["sad_female", "neutral_female", None]
    unknown = replace(sad, gender="")
    assert plain.of(unknown) == "sad"
    with pytest.raises(ValueError, match=r"gender of ravdess/.* is not known: expected a column"):
        both.of(unknown)
    line = "data.target='gender': expected one of emotion, emotion_"
    with pytest.raises(ValueError, match=line):
        Labels(emotions, "gender")


def test_other_emotions_follow_by_name_and_only_classes_that_all_hold_are_shared():
    assert in_order(["tired", "sad", "boredom", "neutral"]) == [
        "neutral",
        "sad",
        "boredom",
        "tired",
    ]
    labels = Labels(label_emotions(drop=["happy"], others=["tired", "boredom"]))
    assert labels.classes == [*(name for name in EMOTIONS if name != "happy"), "boredom", "tired"]
    held = [{"sad", "neutral", "boredom", "happy"}, {"sad", "calm", "boredom"}]
    assert labels.shared(held).classes == ["sad", "boredom"]
    merged = Labels(label_emotions(merge={"calm": "neutral"}))
    assert merged.shared(held).classes == [
        "neutral",
        "sad",
    ]  # of the one calm, of the other neutral
    with pytest.raises(ValueError, match=r"share the classes \['sad'\].*at least two"):
        labels.shared([{"sad", "happy"}, {"sad"}])
    with pytest.raises(ValueError, match="unknown emotion 'boredom'"):
        label_emotions(drop=["boredom"])


def test_no_class_is_called_what_is_not_answered():
    with pytest.raises(ValueError, match="a class is called 'unsure'"):
        Labels({"happy": "happy", "other": "unsure"})
