"""What was measured before the house was rebuilt is measured still, to 1e-9 of its value."""

import numpy as np
import pytest
from golden import cases as golden

CASES = {case.name: case for case in golden.cases()}
KEPT = golden.kept()


def assert_same(found, kept, tolerance):
    assert set(found) == set(kept)
    for name, numbers in kept.items():
        np.testing.assert_allclose(
            found[name], numbers, rtol=tolerance, atol=1e-12, err_msg=name, equal_nan=True
        )


@pytest.mark.parametrize("name", CASES)
def test_a_probe_gives_the_numbers_that_it_gave(name):
    case, kept = CASES[name], KEPT[name]
    found = golden.measure(case, list(kept["metrics"]))
    assert_same(found, kept["numbers"], case.tolerance)


@pytest.mark.parametrize("name", golden.others())
def test_similarities_and_audits_are_what_they_were(name):
    assert_same(golden.others()[name](), KEPT[name]["numbers"], golden.EXACT)


def test_no_case_is_forgotten():
    assert set(KEPT) == set(CASES) | set(golden.others())
    assert all(len(each["numbers"]) > 4 for each in KEPT.values())


def test_a_number_that_moved_is_noticed():
    kept = KEPT["crate-tiny-fmnist/paper"]["numbers"]
    moved = {name: numbers * (1 + 1e-8) for name, numbers in kept.items()}
    with pytest.raises(AssertionError):
        assert_same(moved, kept, golden.EXACT)
