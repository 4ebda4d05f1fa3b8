"""What is refused before a sweep begins."""

import pytest
from omegaconf import OmegaConf

from ser.plugins import Study, _check_blind


@pytest.mark.parametrize(
    ("changes", "searched", "line"),
    [
        ({"fold": "all"}, "model.lr=1,2", "fold=all under hydra/sweeper=optuna chooses by valid"),
        ({}, "fold=0,1", "fold is searched by hydra/sweeper=optuna"),
        ({}, "protocol=luna5,kfold", "protocol is searched by"),
        ({}, "data.tess=train,off", "data.tess is searched by"),
        ({"drawn": {"protocol.seed": "range(0, 9)"}}, "seed=0,1", "protocol.seed is searched by"),
    ],
)
def test_nothing_is_optimised_over_who_tests(
    changes: dict, searched: str, line: str, capsys: pytest.CaptureFixture
):
    sweeper = {"_target_": "optuna", "params": changes.get("drawn"), "storage": None}
    hydra = {"sweeper": sweeper, "overrides": {"task": [searched]}}
    with pytest.raises(SystemExit) as stop:
        Study().on_multirun_start(OmegaConf.create({"fold": 0, "hydra": hydra} | changes))
    assert stop.value.code == 1
    (shown,) = capsys.readouterr().err.splitlines()
    assert line in shown


def test_other_keys_are_searched():
    _check_blind(OmegaConf.create({"fold": 3}), ["model", "seed", "data.window.seconds", "window"])
