"""Feature sets of openSMILE: functionals of descriptors over time, one vector a clip."""

import logging
import math
from functools import cache, cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from joblib import Parallel, cpu_count, delayed
from torch import Tensor
from torch.nn.functional import pad

from ser.config.quantities import Hertz
from ser.features.frontend import FrontEnd, unpadded

if TYPE_CHECKING:
    from opensmile import Smile

FEATURES = {"ComParE_2016": 6373, "eGeMAPSv02": 88}
"""Length of the vector, by feature set."""

FRAME = 0.06
"""Seconds of the longest frame of these sets: openSMILE has no value of a shorter clip."""

log = logging.getLogger(__name__)


class OpenSmile(FrontEnd):
    """Functionals of a feature set of openSMILE: (batch, samples) -> (batch, features).

    A clip is taken without the zeros at its end, but not below one frame. What openSMILE gives as
    NaN or infinite is 0.

    Args:
        feature_set: `ComParE_2016` (Schuller et al. 2016, Interspeech) has 6373 features,
            `eGeMAPSv02` (Eyben et al. 2016, IEEE Trans. Affective Computing 7:2) has 88.
        sample_rate: Hz.

    Raises:
        ModuleNotFoundError: The extra `opensmile` is not installed.
    """

    layout = "vector"
    exact = True
    library = "opensmile"

    def __init__(
        self, feature_set: Literal[*FEATURES] = "ComParE_2016", sample_rate: Hertz = 48000
    ) -> None:
        super().__init__()
        # Not imported: a config is checked by building its front end.
        if find_spec("opensmile") is None:
            raise ModuleNotFoundError(
                f"feature_set={feature_set} needs openSMILE: start with"
                " `uv run --extra opensmile train.py` or `uv run --extra opensmile eval.py`"
            )
        self.feature_set = feature_set
        self.sample_rate = sample_rate
        self.features = FEATURES[feature_set]

    @cached_property
    def smile(self) -> "Smile":
        """The extractor."""
        from opensmile import FeatureLevel, FeatureSet, Smile

        if log.isEnabledFor(logging.INFO):  # not yet where a config is checked
            _tell_licence()
        return Smile(FeatureSet[self.feature_set], FeatureLevel.Functionals)

    def analyse(self, waveform: Tensor) -> Tensor:
        """Transform (batch, samples) to (batch, features)."""
        # Full scale, which openSMILE would turn into the lowest number of 16 bits.
        clips = unpadded(waveform.clamp(max=32767 / 32768))
        shortest = math.ceil(FRAME * self.sample_rate)
        signals = [pad(clip, (0, max(0, shortest - len(clip)))).cpu().numpy() for clip in clips]
        extract = delayed(self.smile)
        # Threads, as openSMILE runs without Python's lock: processes took no less time.
        found = Parallel(cpu_count(), prefer="threads")(
            extract(signal, self.sample_rate) for signal in signals
        )
        values = torch.from_numpy(np.stack(found).reshape(len(found), -1).astype(np.float32))
        return values.nan_to_num(nan=0, posinf=0, neginf=0).to(waveform.device)


@cache  # a process says it once
def _tell_licence() -> None:
    log.info(
        "openSMILE by audEERING GmbH: free for private, research and educational use; a product"
        " with it, or with a model of its features, needs a commercial licence"
    )
