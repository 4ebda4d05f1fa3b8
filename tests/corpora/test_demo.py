"""The embedded corpus: official names, the same samples every time, never half a corpus."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser.corpora import demo
from ser.corpora import synthesis as synthesiser

TAKES = demo.list_takes()
RAVDESS = r"Actor_(\d\d)/03-(0[12])-(0[1-8])-(0[12])-(0[12])-01-\1\.wav"
TESS = r"(OAF|YAF)_(?:(\w+)/\1_[a-z]+_\2|pleasant_surprise/\1_[a-z]+_ps)\.wav"
SOME = [path for path in TAKES if re.search(r"Actor_0[12]/03-0.-0[15]|OAF_(sad|angry)", path)]


@pytest.fixture
def few(monkeypatch):
    """Reduce the corpus to a few clips of two speakers and of TESS."""
    monkeypatch.setattr(demo, "list_takes", lambda: {path: TAKES[path] for path in SOME})
    return SOME


def read_all(root: str) -> dict[str, tuple[bytes, int]]:
    return {str(path.relative_to(root)): path.read_bytes() for path in Path(root).rglob("*.wav")}


def test_names_are_official_and_balanced():
    ravdess = [match.groups() for path in TAKES if (match := re.fullmatch(RAVDESS, path))]
    tess = [path for path in TAKES if re.fullmatch(TESS, path)]
    assert len(ravdess) + len(tess) == len(TAKES) == 616
    assert Counter(speaker for speaker, *_ in ravdess) == {f"{a:02}": 42 for a in range(1, 13)}
    speech = Counter(emotion for _, channel, emotion, *_ in ravdess if channel == "01")
    assert speech == {"01": 24} | {f"{code:02}": 48 for code in range(2, 9)}
    song = Counter(emotion for _, channel, emotion, *_ in ravdess if channel == "02")
    assert song == {f"{code:02}": 24 for code in range(1, 7)}
    assert not [parts for parts in ravdess if parts[2:4] == ("01", "02")]  # no strong neutral
    assert set(Counter(path.split("/")[0] for path in tess).values()) == {8}
    assert len(tess) == 112


def test_women_speak_higher_than_men():
    men, women = (
        [synthesiser.draw_voice(speaker, gender, 0).pitch for speaker in ("01", "02", "DC")]
        for gender in ("male", "female")
    )
    assert max(men) < 150 < min(women)


def test_same_seed_same_bytes_and_other_seed_other_bytes(few, tmp_path):
    first, again = read_all(demo.build(tmp_path / "a")), read_all(demo.build(tmp_path / "b"))
    other = read_all(demo.build(tmp_path / "a", seed=1))
    assert sorted(first) == sorted(few)
    assert first == again
    assert all(first[path] != other[path] for path in few)


def test_clip_depends_on_its_name_alone():
    path = SOME[-1]
    alone = demo.synthesise(path, TAKES[path], 0)[0]
    demo.synthesise(SOME[0], TAKES[SOME[0]], 0)
    np.testing.assert_array_equal(demo.synthesise(path, TAKES[path], 0)[0], alone)


def test_files_are_like_those_of_the_corpora(few, tmp_path):
    root = Path(demo.build(tmp_path))
    assert root == tmp_path / f"demo-v{demo.VERSION}-seed0"
    for path in few:
        samples, rate = soundfile.read(root / path)
        seconds, peak = len(samples) / rate, np.abs(samples).max()
        assert soundfile.info(root / path).subtype == "PCM_16"
        assert samples.ndim == 1
        assert 0.005 < peak < 0.99
        ravdess = path.startswith("Actor")
        assert rate == (48000 if ravdess else 24414)
        assert 3.0 <= seconds <= 4.5 if ravdess else 1.5 <= seconds <= 2.6
        opening = np.abs(samples[: int(0.9 * rate)]).max()
        assert opening < 0.05 * peak if ravdess else opening > 0.3 * peak


def test_second_call_writes_nothing(few, tmp_path, monkeypatch):
    root = demo.build(tmp_path)
    monkeypatch.setattr(demo, "write", lambda *_: pytest.fail("wrote the corpus again"))
    assert demo.build(tmp_path) == root


def test_killed_build_leaves_no_corpus(few, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(demo.os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            demo.build(tmp_path)
    assert not list(tmp_path.rglob("*.wav"))
    partial = tmp_path / f".demo-v{demo.VERSION}-seed0.partial"  # as SIGKILL would leave it
    partial.mkdir()
    (partial / "half.wav").touch()
    root = demo.build(tmp_path)
    assert len(read_all(root)) == len(few)
    assert not partial.exists()


def test_missing_file_is_made_again(few, tmp_path):
    root = demo.build(tmp_path)
    (Path(root) / few[0]).unlink()
    assert len(read_all(demo.build(tmp_path))) == len(few)


def test_no_directory_means_the_cache_folder(few, tmp_path, monkeypatch):
    monkeypatch.setattr("ser.cache.store.user_cache_path", lambda name: tmp_path / name)
    assert Path(demo.build(None)).parent == tmp_path / "ser"
