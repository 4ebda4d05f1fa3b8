"""Committees: several models trained in one run, averaged, in one checkpoint."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ser.training.committee import mixture_weights

MIXED = ("ensemble=['model=cnn seed=1 trainer.max_epochs=1','model=svm']", "model=svm")


def probabilities(run: Path) -> np.ndarray:
    return pd.read_csv(run / "predictions.csv").filter(like="p_").to_numpy()


@pytest.fixture(scope="module")
def mixed(small: list[str], finish: Callable[..., Path]) -> Path:
    """A finished committee of a network and a classical model, which stays as it is."""
    return finish(*small, *MIXED)


def test_a_committee_is_the_mean_of_its_members(mixed: Path, launch: Callable[..., Path]):
    members = [
        launch("eval", f"ckpt={mixed}/member_{number}/checkpoints/best.ckpt", folder=str(number))
        for number in range(2)
    ]
    alone = [probabilities(member) for member in members]
    assert np.abs(alone[0] - alone[1]).max() > 0.1
    np.testing.assert_allclose(probabilities(mixed), np.mean(alone, axis=0), atol=1e-6)
    again = launch("eval", f"ckpt={mixed}/checkpoints/best.ckpt", folder="again")
    assert (again / "predictions.csv").read_text() == (mixed / "predictions.csv").read_text()
