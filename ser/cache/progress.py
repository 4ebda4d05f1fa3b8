"""Progress of what takes long: how many of how many, how many a second, and how long still."""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

_Row = TypeVar("_Row")

log = logging.getLogger(__name__)


class _Rate(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        """Return them, once they are known."""
        return Text(f"{task.speed:.0f}/s" if task.speed else "")


def counted(rows: Iterable[_Row], shown: str, total: int, done: int = 0) -> Iterator[_Row]:
    """Yield what takes long to make, with a bar of how many, how fast and how long still.

    Args:
        rows: To be made.
        shown: What is done, before the bar, and afterwards in the log with its rate.
        total: Of all rows, those of other blocks included.
        done: Of them before these.
    """
    start, count = time.perf_counter(), 0
    columns = (TextColumn(shown), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as bar:
        for row in bar.track(rows, total, done, description=shown):
            yield row
            count += 1
    if not count:
        return
    rate = count / (time.perf_counter() - start)
    left = (total - done - count) / rate
    words = f", {left:.0f} s left" if left > 0 else ""
    log.info("%s: %d of %d, %.0f a second%s", shown, done + count, total, rate, words)
