"""How long the command line takes to answer, against an empty Python process.

python benchmarks/startup.py
"""

import statistics
import subprocess
import sys
import time

ROUNDS = 9
WORDS = {
    "python -c pass": ["-c", "pass"],
    "--help": ["-m", "whitebox_probe", "--help"],
    "list": ["-m", "whitebox_probe", "list"],
    "import whitebox_probe": ["-c", "import whitebox_probe"],
}


def seconds(words):
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


taken = {name: [] for name in WORDS}
for _ in range(ROUNDS):
    for name, words in WORDS.items():
        taken[name].append(seconds(words))
empty = statistics.median(taken["python -c pass"])
for name, values in taken.items():
    middle = statistics.median(values)
    print(f"{name:24s} {middle:.3f} s, {middle / empty:.1f} x an empty process")
