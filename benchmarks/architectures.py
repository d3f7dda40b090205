"""Which architectures of other libraries are read, and how exactly.

python benchmarks/architectures.py [LIBRARY [NAME ...]] prints a table: each architecture that can
be built small, with random weights; whether it loads or why it is refused; the worst deviation of
`z_out` from what the library itself gives, and of the attention. A library is a file beside this
one, `_architectures_LIBRARY.py`, whose `rows(names)` gives (name, outcome, z_out, attention).
"""

import sys
from importlib import import_module
from pathlib import Path

LIBRARIES = sorted(
    path.stem.removeprefix("_architectures_")
    for path in Path(__file__).parent.glob("_architectures_*.py")
)


def main() -> None:
    """Print the table of one library, or of each, and how many load."""
    named, *chosen = sys.argv[1:] or [None]
    for library in [named] if named else LIBRARIES:
        print(f"\n| {library} | outcome | z_out | attention |\n|---|---|---|---|")
        outcomes = []
        rows = import_module(f"_architectures_{library}").rows(chosen or None)
        for name, outcome, z_out, attention in rows:
            outcomes.append(outcome)
            numbers = ["" if each is None else f"{each:.1e}" for each in (z_out, attention)]
            print(f"| {name} | {outcome} | {' | '.join(numbers)} |", flush=True)
        print(f"\n{sum(each == 'loads' for each in outcomes)} of {len(outcomes)} load", flush=True)


if __name__ == "__main__":
    main()
