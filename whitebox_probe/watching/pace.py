"""When a training is measured: every so many steps, or as often as a share of their time allows."""

import math
import statistics
import time
from collections import deque
from collections.abc import Callable

SHARE = 0.02
_STEPS = 100  # the last ones, whose median is a step's time: validation in between does not show
_FEW = 5  # steps, before their median says anything
_COSTS = 5
_ROOM = 1.1  # of the cost: times vary, and a step that is left out makes a log irregular


class Pace:
    """Of one training: told of each step and each measurement, it says which step is measured.

    Without `every`, steps are whole multiples of an interval, 1, 2 or 5 times a power of ten, at
    which measuring takes less than `share` of the steps' time; and one is left out where what was
    spent so far, and this one, are more than that. Before the first step it costs nothing.

    Attributes: every: steps from one measurement to the next, None for the interval. share: of the
        steps' time. steps: told so far. spent: seconds of measuring between them.
    """

    def __init__(
        self,
        every: int | None,
        share: float = SHARE,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.every, self.share = every, share
        self.steps, self.spent = 0, 0.0
        self._clock = clock
        self._since: float | None = None
        self._seconds: deque[float] = deque(maxlen=_STEPS)
        self._costs: deque[float] = deque(maxlen=_COSTS)

    def run(self) -> None:
        """The next step's time begins now."""
        self._since = self._clock()

    def step(self) -> None:
        """A step has ended."""
        if self._since is not None:
            self._seconds.append(self._clock() - self._since)
        self.steps += 1

    def measured(self, seconds: float, *, between: bool = True) -> None:
        """A measurement took so long; it was `between` two steps, or before or behind all."""
        self._costs.append(seconds)
        self.spent += seconds if between else 0.0

    @property
    def step_seconds(self) -> float:
        """The median time of a step, NaN before there is one."""
        return statistics.median(self._seconds) if self._seconds else math.nan

    @property
    def cost(self) -> float:
        """The median time of the last measurements, in seconds; NaN before there is one."""
        return statistics.median(self._costs) if self._costs else math.nan

    @property
    def interval(self) -> int | None:
        """Steps from one measurement to the next; None while that is not known."""
        if self.every is not None:
            return self.every
        if len(self._seconds) < _FEW or not self._costs:
            return None
        allowed = self.share * self.step_seconds
        return rounded(_ROOM * self.cost / allowed) if allowed > 0 else None

    def due(self, step: int) -> bool:
        """Whether the training is measured after this step."""
        interval = self.interval
        if interval is None or step % interval:
            return False
        allowed = self.share * self.step_seconds * self.steps
        return self.every is not None or self.spent + self.cost <= allowed


def rounded(steps: float) -> int:
    """The next of 1, 2, 5, 10, 20, 50, ... steps that is not less.

    >>> [rounded(steps) for steps in (0.2, 1, 3, 17, 51)]
    [1, 1, 5, 20, 100]
    """
    if steps <= 1:
        return 1
    power: int = 10 ** math.floor(math.log10(steps))
    return next(times * power for times in (1, 2, 5, 10) if times * power >= steps)
