import pytest

from ser.corpora.clip import EMOTIONS
from ser.corpora.labels import label_clips, label_emotions


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
    labels = label_emotions(keep=["sad", "calm", "neutral"], merge={"calm": "neutral"})
    assert label_clips(labels, "emotion") == {
        (emotion, gender): label
        for emotion, label in labels.items()
        for gender in ("male", "female")
    }
    found = label_clips(labels, "emotion_gender")
    assert found["calm", "female"] == "neutral_female"
    assert list(dict.fromkeys(found.values())) == [
        *("neutral_male", "neutral_female", "sad_male", "sad_female"),
    ]
    with pytest.raises(
        ValueError, match=r"data.target='gender': expected one of emotion, emotion_"
    ):
        label_clips(labels, "gender")
