"""Measure the golden set anew: python tests/golden/make.py [PART OF A CASE'S NAME ...].

Named, only those cases are measured; the others keep their numbers.
"""

import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from golden import cases as golden

import whitebox_probe as wp


def fitting(case):
    """The names of all measures that the case's model has, tried one by one."""
    from golden.catalogue import names

    if case.metrics is not None:
        candidates = list(case.metrics)
    else:
        candidates = [name for name in names() if name != "intrinsic_dimension"]
    found = []
    for name in candidates:
        try:
            golden.measure(case, [name])
        except (wp.ProbeError, KeyError):
            continue
        found.append(name)
    return found


def main(wanted):
    warnings.simplefilter("ignore")
    before = golden.kept() if golden.NUMBERS.is_file() else {}
    found = {}
    start = time.perf_counter()
    for case in golden.cases():
        if wanted and not any(part in case.name for part in wanted) and case.name in before:
            old = before[case.name]
            found[case.name] = (old["metrics"], {k: list(v) for k, v in old["numbers"].items()})
            continue
        metrics = fitting(case)
        begun = time.perf_counter()
        found[case.name] = (metrics, golden.measure(case, metrics))
        print(
            f"{case.name}: {len(metrics)} measures, {time.perf_counter() - begun:.2f} s", flush=True
        )
    for name, run in golden.others().items():
        if wanted and not any(part in name for part in wanted) and name in before:
            found[name] = ([], {k: list(v) for k, v in before[name]["numbers"].items()})
        else:
            found[name] = ([], run())
    golden.save(found)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
