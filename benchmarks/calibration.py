"""How often the audit is wrong: on untrained networks, and how often it sees what is there.

    python benchmarks/calibration.py                     # all of it, in about two hours
    python benchmarks/calibration.py untrained curves    # how often it is wrong
    python benchmarks/calibration.py networks            # how often it sees what is there
    python benchmarks/calibration.py --write             # verdicts of seed 0: docs/calibration.csv

Of each architecture 20 untrained networks are audited on 32 samples, against 20 further draws and
ten times their own weights permuted; other settings, which could only take support away, are left
out. Then 1,000 models whose curves show nothing are judged for each number of layers: curves whose
layers are exchangeable, and curves that are walks. Then each reference network is built with 20
seeds and judged on 64 samples.
"""

import argparse
import csv
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' made-up results

import whitebox_probe as wp
from tests.auditing import made_up
from whitebox_probe.auditing.claim import claims
from whitebox_probe.auditing.judge import Measured, judge
from whitebox_probe.models.load import load_random

SEEDS, ROUNDS = 20, 1000
LAYERS = (2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24)
OVER_LAYERS = ("compresses", "sparsifies", "objective_improves")
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
    drawn = [
        replace(load_random(trained, seed=n), name=f"{name}, seed {n}")
        for n in range(1000, 1000 + seeds)
    ]
    frame = wp.audit(drawn, data, limit=samples, robustness=False, progress=False).frame
    supported = frame[frame["verdict"] == "supported"]
    found = Counter(supported["claim"].tolist())
    found["any"] = supported["model"].nunique()
    return found


def judged(curves: Any, layers: int, *, rounds: int = ROUNDS) -> Counter[str]:
    """Of models whose curves show nothing, how many have a claim supported or contradicted."""
    those = [wanted for wanted in claims().values() if wanted.name in OVER_LAYERS]
    found: Counter[str] = Counter()
    for seed in range(rounds):
        values = made_up.shows_nothing(curves, layers, seed=seed)
        result = made_up.result(values, layers=layers, samples=16)
        frame = judge({"made-up": Measured(result, made_up.BASE)}, of=those).frame
        wrong = frame[frame["verdict"].isin(["supported", "contradicted"])]
        found.update(wrong["claim"].tolist())
        found["any"] += len(wrong) > 0
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


def of_untrained() -> None:
    """Print how often untrained networks have a claim supported."""
    wrong = 0
    for name, data in SHIPPED.items():
        found = untrained(name, data)
        wrong += found["any"]
        print(f"untrained {name}: {found['any']} of {SEEDS} with a claim supported{_by(found)}")
    whole = SEEDS * len(SHIPPED)
    print(f"  all: {wrong} of {whole} = {wrong / whole:.1%} (at most 5%)")


def of_curves() -> None:
    """Print how often curves that show nothing get a verdict."""
    for curves in (made_up.flat, made_up.walk):
        for layers in LAYERS:
            found = judged(curves, layers)
            told = f"{curves.__name__}, {layers} layers: {found['any'] / ROUNDS:.1%} of {ROUNDS}"
            print(f"{told} with a verdict{_by(found)}", flush=True)


def of_networks(names: Sequence[str] = ()) -> None:
    """Print with how many seeds each reference network is judged as expected."""
    for name, known in wp.reference.networks().items():
        if names and name not in names:
            continue
        found = recognised(name)
        told = ", ".join(f"{claim} {found[claim]}" for claim in known.expected)
        print(f"{name}: of {SEEDS} seeds judged as expected: {told}", flush=True)


def _by(found: Counter[str]) -> str:
    told = ", ".join(f"{claim} {n}" for claim, n in found.items() if claim != "any" and n)
    return f" ({told})" if told else ""


PARTS = {"untrained": of_untrained, "curves": of_curves, "networks": of_networks}


def main() -> None:
    """Print what is asked for, or write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", help=f"{', '.join(PARTS)}, or a network; all if none")
    parser.add_argument("--write", action="store_true", help="the table of seed 0 into docs")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    if asked.write:
        write()
        return
    names = [part for part in asked.parts if part not in PARTS]
    for part, run in PARTS.items():
        if part in asked.parts or not asked.parts:
            run()
    if names:
        of_networks(names)


if __name__ == "__main__":
    main()
