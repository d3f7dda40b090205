"""Run the fast tests beside the oldest or the newest versions, in a virtual environment of its own.

`python -m tests.compat oldest --into /tmp/oldest [--python python3.10]`. The versions are those of
`tests/compat/oldest.txt` or `newest.txt`; what came out becomes a column of
`tests/compat/record.csv`, which docs/compatibility.md shows. The exit status is pytest's.
"""

import argparse
import csv
import json
import os
import re
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EXTRAS = "text,onnx,photos,datasets,drive,dimension,slurm"
TOOLS = ["pytest", "pytest-xdist", "hypothesis", "nbclient", "ipykernel", "ipywidgets", "nbconvert"]
TOOLS += ["onnxruntime", "playwright", "axe-core-python"]
FAST = ["golden", "stats", "metrics", "contract/test_every_family.py", "auditing/test_rules.py"]
FAST += ["results/test_saving.py", "checkpoints/test_pickles.py", "probing/test_resume.py"]
FAST += [
    "models/test_timm_vit.py",
    "models/test_verify.py",
    "models/test_hf.py",
    "test_readers.py",
    "test_memory.py",
]
SHOWN = ["torch", "torchvision", "timm", "transformers", "torchmetrics", "numpy", "pandas"]
COLUMNS = ["versions", "date", "python", *SHOWN, "passed", "skipped", "failed", "commit"]


def installed(folder: Path, versions: str, python: str) -> Path:
    """A virtual environment with those versions; one that is there already is brought up to it."""
    inside = folder / "bin" / "python"
    if not inside.exists():
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
    # For what it asks for, and its metadata; the tests import the checkout that they lie in.
    wanted = [f"{ROOT}[{EXTRAS}]", *TOOLS, "--constraint", str(HERE / f"{versions}.txt")]
    subprocess.run([str(inside), "-m", "pip", "install", "--quiet", *wanted], check=True)
    return inside


def ran(python: Path, tests: list[str]) -> tuple[int, dict[str, int]]:
    """pytest's exit status, and how many tests passed, were skipped and failed.

    Warnings are no errors here: an old version warns of other things than a new one, and a number
    is what is asked about.
    """
    told = ["-m", "pytest", "-W", "default", "-m", "not slow and not weights", *tests]
    where = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.Popen(
        [str(python), *told], cwd=ROOT, env=where, stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    last = ""
    for line in run.stdout:
        print(line, end="", flush=True)
        last = line if re.search(r"\d+ (passed|failed|error)", line) else last
    count = {word: int(n) for n, word in re.findall(r"(\d+) (passed|skipped|failed|error)", last)}
    failed = count.get("failed", 0) + count.get("error", 0)
    return run.wait(), {
        "passed": count.get("passed", 0),
        "skipped": count.get("skipped", 0),
        "failed": failed,
    }


def versions_in(python: Path) -> dict[str, str]:
    """The versions that an environment has, of what the record names, and its Python's."""
    ask = (
        "import json, platform; from importlib.metadata import version; "
        f"print(json.dumps({{n: version(n) for n in {SHOWN}}} | "
        "{'python': platform.python_version()}))"
    )
    done = subprocess.run([str(python), "-c", ask], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def keep(found: dict[str, str | int]) -> None:
    """Put a column into the record, in place of the last one of the same versions and Python."""
    file = HERE / "record.csv"
    held: list[dict[str, str | int]] = []
    if file.exists():
        with file.open(newline="") as old:
            names, *columns = zip(*csv.reader(old), strict=True)
        held = [dict(zip(names, column, strict=True)) for column in columns]

    def of(each: dict[str, str | int]) -> tuple[str, str]:
        return str(each["versions"]), ".".join(str(each["python"]).split(".")[:2])

    held = sorted([each for each in held if of(each) != of(found)] + [found], key=of)
    with file.open("w", newline="") as new:
        writer = csv.writer(new, lineterminator="\n")
        writer.writerows([name, *(each[name] for each in held)] for name in COLUMNS)


def main() -> int:
    """One set of versions, once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", choices=["oldest", "newest"])
    parser.add_argument("--into", type=Path, required=True, help="the environment's folder")
    parser.add_argument("--python", default=sys.executable, help="the Python to make it with")
    parser.add_argument("--tests", nargs="+", help="files of tests/ (default: the fast ones)")
    args = parser.parse_args()
    python = installed(args.into.absolute(), args.versions, args.python)
    chosen = args.tests or FAST
    code, count = ran(python, [str(HERE.parent / each) for each in chosen])
    if args.tests is None:  # a part of them is no record
        git = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
        day = datetime.now(timezone.utc).date().isoformat()
        about: dict[str, str | int] = {"date": day, "versions": args.versions, "commit": commit}
        keep(about | versions_in(python) | count)
    return code


if __name__ == "__main__":
    sys.exit(main())
