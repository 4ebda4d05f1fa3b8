"""The commands of the README and of docs/ run, shortened by overrides where they are long."""

import re
import runpy
import shlex
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGES = {
    page: page.read_text()
    for page in (
        REPOSITORY / "README.md",
        *sorted((REPOSITORY / "docs").glob("*.md")),
        REPOSITORY / ".github" / "CONTRIBUTING.md",
    )
}
BLOCKS = re.findall(r"```bash\n(.*?)```", "".join(PAGES.values()), re.DOTALL)
PYTHON = re.findall(r"```python\n(.*?)```", "".join(PAGES.values()), re.DOTALL)
LINES = [line.split("#")[0].strip() for block in BLOCKS for line in block.splitlines()]
COMMANDS = list(dict.fromkeys(LINES))
"""Each once, however many pages it stands on."""
TRAINS = [command for command in COMMANDS if command.startswith("uv run train.py")]
# With the extra `sweep`, which tests/launch/ runs.
EXTRAS = [command for command in COMMANDS if command.startswith("uv run --extra sweep ")]
# With the extra `app`, whose server tests/page/test_page.py starts.
APPS = [command for command in COMMANDS if command.startswith("uv run --extra app ")]
# With the extra `onnx`, which tests/inference/test_onnx.py runs.
EXPORTS = [command for command in COMMANDS if command.startswith("uv run --extra onnx ")]
# What tests/launch/test_wandb_sweep.py tries without a server.
SWEEPS = [command for command in COMMANDS if command.startswith("uv run wandb ")]
# What goes on with something: a run, a sweep.
RESUMES = [command for command in TRAINS if "resume" in command]
TRAINS = [command for command in TRAINS if "resume" not in command]
EVALS = [command for command in COMMANDS if command.startswith("uv run eval.py")]
MODULES = [command for command in COMMANDS if command.startswith("uv run python -m ser.")]


README_TRAINS = re.findall(r"uv run train.py[^#\n]*[^#\n ]", BLOCKS[0])
"""Of its first block; all others are slow."""


def test_every_command_is_known():
    rest = set(COMMANDS) - {*TRAINS, *EXTRAS, *APPS, *EXPORTS, *SWEEPS, *RESUMES, *EVALS, *MODULES}
    assert rest == {"pip install uv", "uv run --group test pytest"}
    readme = re.search(r"```bash\n(.*?)```", PAGES[REPOSITORY / "README.md"], re.DOTALL)[1]
    assert "uv run --group test pytest " in readme  # of the first block
    assert (REPOSITORY / ".ci" / "run").read_text().splitlines()[-1] == "uv run --group test pytest"


def test_the_commands_of_the_extra_are_those_that_the_launchers_test():
    tested = "".join(path.read_text() for path in (REPOSITORY / "tests" / "launch").glob("*.py"))
    words = [word for command in EXTRAS for word in shlex.split(command)]
    for word in ("ser.tune", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"):
        assert word in words
        assert f'"{word}"' in tested


def test_the_exports_to_onnx_are_those_that_are_tested():
    tested = (REPOSITORY / "tests" / "inference" / "test_onnx.py").read_text()
    words = {word.partition("=")[0] for command in EXPORTS for word in shlex.split(command)[7:]}
    assert words == {"ckpt", "to", "int8"}
    assert all(f"{word}=" in tested for word in words)
    assert all("python -m ser.export ckpt=" in command for command in EXPORTS)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, marks=[pytest.mark.slow] * (command not in README_TRAINS))
        for command in TRAINS
    ],
)
def test_a_training_command_runs(
    launch: Callable[..., Path], small: list[str], tmp_path: Path, command: str
):
    words = [word for word in shlex.split(command)[3:] if not word.startswith("data.root=")]
    words = [word for word in words if not word.startswith(("trainer.max_epochs", "logger="))]
    classical = not {"model=svm", "model=logistic", "experiment=knn"}.isdisjoint(words)
    shorter = {
        "seed=0,1,2": ["seed=0"],
        "model=cnn,svm,logistic": ["model=svm,logistic"],
        "fold=0,1,2,3,4": ["fold=0,1"],
        "fold=all": ["fold=all", "protocol=kfold", "protocol.folds=2"],
        "sweep=drop_each_class": ["sweep=drop_each_class", "model=logistic", "drop_classes=[calm]"],
        "sweep=leakage_gap": ["sweep=leakage_gap", "protocol=random,kfold", "++protocol.folds=2"],
    }
    if "protocol=cross_corpus" in words:
        del shorter["fold=all"]  # there are two
    elif "fold=all" in words:
        words.remove("protocol=luna5")
    # Runs, with the folds of those that have any.
    sweeps = {
        "seed=0,1,2": 2,
        "fold=0,1,2,3,4": 2,
        "sweep=leakage_gap": 6,
        "sweep=drop_each_class": 2,
        "sweep=loco": 4,
    }
    (sweep,) = [sweeps[word] for word in words if word in sweeps] or [None]
    folds = not {"fold=all", "experiment=tess_speakers"}.isdisjoint(words)
    expected = sweep or (3 if folds else 1)
    words = [short for word in words for short in shorter.get(word, [word])]
    short = [] if classical or sweep else ["trainer.max_epochs=1"]
    where = [f"hydra.sweep.dir={tmp_path / 'run'}"] if sweep else []
    # A random split of sixteen classes wants all clips.
    whole = not {"data=demo", "experiment=knn", "data.corpora=[tess]"}.isdisjoint(words)
    data = ["data=demo"] if whole else small
    run = launch("train", *words, *data, *short, *where)
    assert len(list(run.rglob("metrics.json"))) == expected
    assert (run / "summary.csv").exists() == bool(sweep)


def test_the_evaluation_commands_run(
    svm_run: Path,
    launch: Callable[..., Path],
    few: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recordings").symlink_to(few / "Actor_01")
    for index, command in enumerate(EVALS):
        words = shlex.split(re.sub(r"outputs/\S+(?=/checkpoints)", str(svm_run), command))
        scored = launch("eval", *words[3:], folder=str(index), logger="none")
        assert (scored / "predictions.csv").exists()


def test_what_is_said_in_python_runs(
    cnn_run: Path, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recordings").symlink_to(few / "Actor_01")
    (tmp_path / "clip.wav").symlink_to(next((few / "Actor_01").iterdir()))
    (tmp_path / "best.ckpt").symlink_to(cnn_run / "checkpoints" / "best.ckpt")
    blocks = [block for block in PYTHON if "from ser import" in block]
    assert blocks
    for block in blocks:
        exec(compile(block, "docs", "exec"), {})


@pytest.mark.slow
def test_the_other_commands_run(
    launch: Callable[..., Path],
    few: Path,
    small: list[str],
    official: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
):
    folds = ["model=svm", "protocol=kfold", "protocol.folds=2", "fold=0,1"]
    sweep = tmp_path / "sweep"
    launch("train", "-m", *small, *folds, f"hydra.sweep.dir={sweep}")
    for command in RESUMES:
        if "resume=" in command:  # tests/test_resume.py runs it
            assert command.endswith("train.py resume=outputs/default/<time>/checkpoints/last.ckpt")
            continue
        words = shlex.split(re.sub(r"outputs/\S+", str(sweep), command))[3:]
        monkeypatch.setattr(sys, "argv", ["train.py", *words])
        with pytest.raises(SystemExit, match="0"):
            runpy.run_path(str(REPOSITORY / "train.py"), run_name="__main__")
    runs = {"pool": sweep, "sweep": sweep, "a": sweep, "b": sweep / "0"}
    runs |= {"runs": f"[{sweep},{sweep}]", "data.root": few}
    scored = sweep / "0" / "checkpoints" / "best.ckpt"
    runs |= {"ckpt": scored}
    monkeypatch.chdir(tmp_path)
    for command in sorted(MODULES, key=lambda text: "pool=" not in text):  # makes one a run
        _, _, _, _, module, *words = shlex.split(command)
        pairs = (word.split("=", 1) for word in words if "=" in word)
        given = [f"{key}={runs.get(key, value)}" for key, value in pairs]
        if module == "ser.explore":
            given.append(f"cache.dir={cache}")
        if module == "ser.stress":  # of a multirun both jobs are the same
            conditions = [word for word in words if word.startswith("conditions=")]
            given = [f"ckpt={scored}", *(conditions or ["conditions=[white_20]"])]
            given += [f"cache.dir={cache}", f"data.root={few}"]
            if "-m" in words:
                given = ["-m", *given, "seed=0,1"]
        if module == "ser.prepare":
            given = [f"data.root={few}", f"cache.dir={cache}", "window.seconds=1", "name=prepared"]
            if "-m" in words:
                given = ["-m", "shard=0,1", "shards=2", *given]
        if module == "ser.download":  # all is there: nothing is fetched
            given = [f"data.root={official}", "data.corpora=[ravdess]"]
        monkeypatch.setattr(sys, "argv", [module, *given])
        monkeypatch.delitem(sys.modules, module, raising=False)
        # The embedded corpus is not the releases: the doctor says so by its exit code.
        ends = pytest.raises(SystemExit, match="1") if "doctor" in module else nullcontext()
        with ends:
            runpy.run_module(module, run_name="__main__")
    assert (sweep / "metrics.json").exists()
    written = {path.name for path in (tmp_path / "outputs").glob("*/*/*")}
    assert {"comparison.csv", "corpus.csv", "recording.png", "report.html"} <= written


def test_the_commands_of_the_package_are_all_shown():
    shown = set(re.findall(r"python -m (ser\.\w+)", "\n".join(COMMANDS)))
    files = [path for path in (REPOSITORY / "ser").glob("*.py") if "hydra.main" in path.read_text()]
    assert shown == {f"ser.{path.stem}" for path in files}


def anchors(text: str) -> set[str]:
    """Name the headings of a page as GitHub does."""
    headings = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_the_pages_lead_somewhere(page: Path):
    links = [link for link in re.findall(r"\]\((.*?)\)", PAGES[page]) if "://" not in link]
    for link in links:
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(PAGES[target]), link
    if page.name == "README.md":
        assert {f"docs/{other.name}" for other in PAGES if other.parent == REPOSITORY / "docs"} <= {
            *links
        }


def test_the_layout_names_every_package():
    layout = PAGES[REPOSITORY / "README.md"].partition("## Layout")[2].split("```")[1]
    assert len(layout.strip().splitlines()) == 10
    places = (line.split("  ")[0] for line in layout.strip().splitlines())
    named = re.findall(r"(\w+)/", " ".join(places))
    packages = {path.parent.name for path in (REPOSITORY / "ser").glob("*/__init__.py")}
    assert set(named) - {"ser", "conf"} == packages


def test_the_pictures_are_there_and_small():
    pictures = [
        page.parent / picture
        for page, text in PAGES.items()
        for picture in re.findall(r"!\[.*?\]\((.*?)\)", text)
    ]
    assert len(pictures) == 5
    for picture in pictures:
        assert 10_000 < picture.stat().st_size < 200_000
