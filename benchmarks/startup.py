"""How long the command line takes to answer, against an empty Python process; and the first probe.

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

# What the first probe of a process takes more than the second, once torch is imported.
PROBE = """
import time, torch, whitebox_probe as wp
model = wp.load("crate-tiny-fmnist")
taken = []
for _ in range(2):
    start = time.perf_counter()
    wp.probe(model, "fashion-mnist", limit=32, progress=False)
    taken.append(time.perf_counter() - start)
print(*taken)
"""
pairs = []
for _ in range(5):
    out = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    pairs.append([float(word) for word in out.stdout.split()])
first, second = (statistics.median(values) for values in zip(*pairs, strict=True))
print(f"first probe {first:.2f} s, second {second:.2f} s: {first / second:.1f} x")
