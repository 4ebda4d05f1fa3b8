"""The front end of a model: built from its recipe, and matched with the network behind it.

A front end declares its `layout`, `planes` of `channels` and `bins` or a `vector` of `features`,
and whether its features are `cached`. A network declares the layout that it takes.
"""

from collections.abc import Mapping

import torchaudio
from hydra.utils import get_class, instantiate
from torch import nn

VERSION = f"1, torchaudio {torchaudio.__version__}"
"""Part of the key of cached features: raise it when a front end gives other values than before."""

OPTIONS = {"planes": "mfcc, logmel, mfcc_chroma or mel_image", "vector": "functionals"}
"""By layout, the choices of frontend=."""


def sizes_of(frontend: nn.Module) -> dict[str, int]:
    """Return what a network must know of the features."""
    names = ("bins", "channels") if frontend.layout == "planes" else ("features",)
    return {name: getattr(frontend, name) for name in names}


def build_frontend(frontend: Mapping, network: Mapping) -> nn.Module:
    """Build the front end of a recipe.

    Raises:
        ValueError: Its features are of another layout than the network takes.
    """
    check_layout(frontend, get_class(network["_target_"]).layout, network["_target_"])
    return instantiate(frontend)


def check_layout(frontend: Mapping, layout: str, target: str) -> None:
    """Refuse the recipe of a front end whose features are not of a layout.

    Args:
        frontend: The recipe.
        layout: What is taken.
        target: What takes it, for the message.
    """
    given = get_class(frontend["_target_"]).layout
    if given != layout:
        raise ValueError(
            f"{frontend['_target_']} gives features as {given}, but {target} takes {layout}:"
            f" expected frontend={OPTIONS[layout]}"
        )


def cache_key(recipe: Mapping) -> list:
    """Return what cached features depend on, given what the front end is built from."""
    return [VERSION, recipe]
