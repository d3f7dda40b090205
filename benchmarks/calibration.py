"""How often the audit is wrong: on untrained networks, and how often it sees what is there.

    python benchmarks/calibration.py            # both, in some twenty minutes
    python benchmarks/calibration.py --write    # the verdicts of seed 0 into docs/calibration.csv

Of each architecture 40 untrained networks are measured once. Twenty are judged, against the other
twenty as their random weights; other settings, which could only take support away, are left out.
Then each reference network is built with 20 seeds and judged on 64 samples.
"""

import csv
import sys
import warnings
from collections import Counter
from pathlib import Path

import whitebox_probe as wp
from whitebox_probe.auditing.audit import wanted
from whitebox_probe.auditing.grid import usual
from whitebox_probe.auditing.judge import Measured, judge
from whitebox_probe.models.load import load_random
from whitebox_probe.probing.probe import probe

SEEDS = 20
TABLE = Path(__file__).parents[1] / "docs" / "calibration.csv"
SHIPPED = {
    "crate-tiny-fmnist": "fashion-mnist",
    "vit-tiny-fmnist": "fashion-mnist",
    "crate-tiny-kjv": "kjv",
    "gpt2-tiny-kjv": "kjv",
}


def untrained(name: str, data: str, *, seeds: int = SEEDS, samples: int = 32) -> Counter[str]:
    """How many untrained networks have how many claims supported, and which."""
    trained = wp.load(name)
    base = usual(trained, eps=0.1, lam=0.1)
    requests, absent = wanted(trained, base, ())
    drawn = [
        probe(load_random(trained, seed=n), data, requests, limit=samples, progress=False)
        for n in range(1000, 1000 + 2 * seeds)
    ]
    found: Counter[str] = Counter()
    for result in drawn[:seeds]:
        measured = Measured(result, base, nulls={"random weights": drawn[seeds:]}, absent=absent)
        frame = judge({name: measured}).frame
        supported = frame[frame["verdict"] == "supported"]["claim"].tolist()
        found["any"] += bool(supported)
        found.update(supported)
    return found


def recognised(network: str, *, seeds: int = SEEDS) -> Counter[str]:
    """Of each claim that a reference network settles, with how many seeds it is judged so."""
    known = wp.reference.networks()[network]
    found: Counter[str] = Counter()
    for seed in range(seeds):
        frame = wp.audit(known.build(seed), known.data(seed), progress=False).frame
        verdicts = frame.set_index("claim")["verdict"]
        found.update(claim for claim, wanted in known.expected.items() if verdicts[claim] == wanted)
    return found


def table() -> dict[str, dict[str, str]]:
    """Network -> claim -> the audit's verdict with seed 0."""
    found = {}
    for name, known in wp.reference.networks().items():
        frame = wp.audit(known.build(0), known.data(0), progress=False).frame
        found[name] = dict(zip(frame["claim"], frame["verdict"], strict=True))
    return found


def write() -> None:
    """The table into the file that docs and tests take it from."""
    found = table()
    with TABLE.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        claims = list(next(iter(found.values())))
        writer.writerow(["network", *claims])
        writer.writerows([name, *(of[claim] for claim in claims)] for name, of in found.items())


def main() -> None:
    """Print both."""
    warnings.filterwarnings("ignore")
    if "--write" in sys.argv[1:]:
        write()
        return
    wrong = 0
    for name, data in SHIPPED.items():
        found = untrained(name, data)
        wrong += found["any"]
        told = ", ".join(f"{claim} {n}" for claim, n in found.items() if claim != "any" and n)
        print(
            f"untrained {name}: {found['any']} of {SEEDS} with a claim supported ({told or 'none'})"
        )
    whole = SEEDS * len(SHIPPED)
    print(f"  all: {wrong} of {whole} = {wrong / whole:.1%} (at most 5%)")
    for name, known in wp.reference.networks().items():
        found = recognised(name)
        told = ", ".join(f"{claim} {found[claim]}" for claim in known.expected)
        print(f"{name}: of {SEEDS} seeds judged as expected: {told or 'no claim is settled'}")


if __name__ == "__main__":
    main()
