"""When a training is measured, by a clock of the test's own."""

from itertools import pairwise

import pytest

from whitebox_probe.watching.pace import Pace, rounded


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def steps_measured(pace, clock, *, step, cost, steps):
    """The steps that are measured of a training whose steps and measurements take so long."""
    found = []
    pace.run()
    for number in range(1, steps + 1):
        clock.now += step(number) if callable(step) else step
        pace.step()
        if pace.due(number):
            found.append(number)
            pace.measured(cost)
            clock.now += cost
        pace.run()
    return found


def test_a_number_of_steps_is_kept_to_whatever_it_costs():
    clock = Clock()
    pace = Pace(3, clock=clock)
    assert steps_measured(pace, clock, step=1.0, cost=100.0, steps=10) == [3, 6, 9]


@pytest.mark.parametrize("share", [0.02, 0.1])
@pytest.mark.parametrize("cost", [0.05, 0.3, 4.0])
def test_an_interval_keeps_to_its_share_of_the_time_at_regular_steps(cost, share):
    clock = Clock()
    pace = Pace(None, share, clock)
    pace.measured(cost, between=False)
    found = steps_measured(pace, clock, step=0.25, cost=cost, steps=4000)
    assert found, "it is measured"
    assert pace.spent <= share * 0.25 * 4000
    assert {later - before for before, later in pairwise(found)} <= {pace.interval}
    assert pace.interval == rounded(1.1 * cost / (share * 0.25))


def test_a_validation_between_steps_does_not_count_as_a_step():
    clock = Clock()
    pace = Pace(None, clock=clock)
    pace.measured(0.1, between=False)
    steps_measured(pace, clock, step=lambda n: 100.0 if n % 50 == 0 else 0.1, cost=0.1, steps=500)
    assert pace.step_seconds == pytest.approx(0.1)
    assert pace.interval == 100


def test_what_one_slow_measurement_took_is_made_up_for():
    clock = Clock()
    pace = Pace(None, clock=clock)
    pace.measured(0.02, between=False)
    assert steps_measured(pace, clock, step=0.1, cost=0.02, steps=40) == [20, 40]
    pace.measured(1.0)  # as when another process had the machine
    later = [n + 40 for n in steps_measured(pace, clock, step=0.1, cost=0.02, steps=600)]
    assert later[0] >= 500
    assert pace.spent <= 0.02 * 0.1 * 640


def test_nothing_is_measured_before_the_times_are_known():
    clock = Clock()
    pace = Pace(None, clock=clock)
    assert steps_measured(pace, clock, step=10.0, cost=0.001, steps=50) == []
    assert pace.interval is None
    pace.measured(0.001, between=False)
    assert pace.interval == 1
