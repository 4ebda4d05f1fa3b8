import pytest

from ser.data.classes import select_classes
from ser.data.corpora import EMOTIONS


def test_classes_keep_their_order_and_close_up():
    assert select_classes() == list(EMOTIONS)
    assert select_classes(drop=["sad", "calm"]) == [
        "neutral", "happy", "angry", "fearful", "disgust", "surprised"
    ]  # fmt: skip
    assert select_classes(keep=["sad", "happy"]) == ["happy", "sad"]


@pytest.mark.parametrize(
    ("typo", "nearest"), [("sat", "sad"), ("Angry", "angry"), ("surprise", "surprised")]
)
def test_a_misspelt_class_gets_the_eight_names_and_the_nearest(typo: str, nearest: str):
    with pytest.raises(ValueError, match=f"{typo!r}.*{', '.join(EMOTIONS)}.*{nearest!r}"):
        select_classes(drop=[typo])


def test_one_class_is_no_task():
    with pytest.raises(ValueError, match="at least two"):
        select_classes(keep=["sad"])
