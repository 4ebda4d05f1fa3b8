"""Numbers within bounds, as annotations of constructor arguments: checked before anything is built.

The upper bounds are ten times what anyone takes; they keep a recipe from taking all memory.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from annotated_types import Interval, MinLen

Count = Annotated[int, Interval(ge=1, le=2**14)]
"""Bins, clips of a batch, outputs of a layer."""

Natural = Annotated[int, Interval(ge=0, le=2**14)]
"""A count that may be 0."""

Widths = Annotated[Sequence[Count], MinLen(1)]
"""Outputs of layers, one after the other."""

Seed = Annotated[int, Interval(ge=0, lt=2**32)]
"""Of NumPy's and torch's generators."""

Hertz = Annotated[int, Interval(ge=4000, le=384000)]
"""A rate of samples that speech may have."""

Bands = Annotated[int, Interval(ge=1, le=1024)]
"""Of a mel filter bank."""

Samples = Annotated[int, Interval(ge=16, le=2**14)]
"""Of a frame."""

Hop = Annotated[int, Interval(ge=1, le=2**14)]
"""Samples from one frame to the next."""

Seconds = Annotated[float, Interval(gt=0, le=1500)]

Share = Annotated[float, Interval(ge=0, le=1)]

Part = Annotated[float, Interval(ge=0, lt=1)]
"""A share that leaves something."""

Positive = Annotated[float, Interval(gt=0, le=1e6)]

Amount = Annotated[float, Interval(ge=0, le=1e6)]

Fold = Annotated[int, Interval(ge=0, le=1000)] | Literal["all"]
