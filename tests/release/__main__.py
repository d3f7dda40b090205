"""Build the package, check what was built, and run it alone in a new environment, offline.

`python -m tests.release --into /tmp/release`; it needs build, twine, cyclonedx-bom and pip-audit.
It leaves `dist/`, `sbom.cdx.json` (what a user gets, by CycloneDX) and the figures of the demo.
Each step tells what it found; the exit status is 1 where one of them failed. `--without audit`
leaves out what asks for the known vulnerabilities, for a machine that reaches no list of them.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
LARGEST = 20_000_000
"""Bytes of a wheel."""


class Failed(Exception):  # noqa: N818 - a reason
    """Why a step failed."""


def said(*words: str | Path, cwd: Path | None = None) -> str:
    """What a command printed."""
    # As a user has it: nothing of the checkout is found beside the installed package.
    here = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run([str(w) for w in words], cwd=cwd, env=here, capture_output=True, text=True)
    if run.returncode:
        told = (run.stderr or run.stdout).strip().splitlines()[-12:]
        raise Failed(
            f"{' '.join(map(str, words[:4]))} …: exit {run.returncode}\n" + "\n".join(told)
        )
    return run.stdout


def build(into: Path) -> str:
    """The source distribution and the wheel, of what git tracks."""
    source = into / "source"
    shutil.rmtree(source, ignore_errors=True)
    said("git", "clone", "--quiet", "--depth=1", f"file://{ROOT}", source)
    said(sys.executable, "-m", "build", "--outdir", into / "dist", source)
    said(sys.executable, "-m", "twine", "check", "--strict", *sorted((into / "dist").iterdir()))
    return "twine has no complaint"


def size(into: Path) -> str:
    """The wheel's size, against the bound."""
    found = wheel(into).stat().st_size
    if found >= LARGEST:
        raise Failed(f"the wheel has {found:,} bytes, and {LARGEST:,} are allowed")
    return f"the wheel has {found:,} bytes"


def wheel(into: Path) -> Path:
    """The one wheel that was built."""
    built = sorted((into / "dist").glob("*.whl"))
    if len(built) != 1:
        raise Failed(f"{len(built)} wheels in {into / 'dist'}, and one is needed")
    return built[0]


def install(into: Path) -> str:
    """The wheel in a new environment, with what it asks for and nothing else."""
    said(sys.executable, "-m", "venv", "--clear", into / "venv")
    said(into / "venv/bin/python", "-m", "pip", "install", "--quiet", wheel(into))
    said(into / "venv/bin/python", "-m", "pip", "check")
    return said(into / "venv/bin/whitebox-probe", "--version", cwd=into).strip()


def demo(into: Path) -> str:
    """The demo in a folder of its own, where Linux can take the network away, without one."""
    place = into / "demo"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    cut = ["unshare", "--net", "--map-root-user", "true"]
    alone = bool(shutil.which(cut[0])) and subprocess.run(cut, capture_output=True).returncode == 0
    words = [into / "venv/bin/whitebox-probe", "demo", "--quiet", "--out", "figures"]
    said(*(cut[:-1] if alone else []), *words, cwd=place)
    made = sorted(each.suffix for each in (place / "figures").rglob("*") if each.is_file())
    if missing := {".png", ".parquet", ".csv"} - set(made):
        raise Failed(f"the demo made no {' and no '.join(sorted(missing))}")
    how = "without a network" if alone else "with a network: it could not be taken away here"
    return f"{len(made)} files, {how}"


def bill(into: Path) -> str:
    """What a user gets: every package with its version and licence, as CycloneDX writes it."""
    file = into / "sbom.cdx.json"
    told = ["--output-reproducible", "--of", "JSON", "-o", file]
    said("cyclonedx-py", "environment", *told, into / "venv/bin/python")
    return f"{file.stat().st_size:,} bytes in {file}"


def audit(into: Path) -> str:
    """The known vulnerabilities of those packages; of one that nobody could tell of, that."""
    held = next((into / "venv/lib").glob("python*")) / "site-packages"
    told = json.loads(said("pip-audit", "--path", held, "--skip-editable", "--format", "json"))
    every = told["dependencies"]
    unknown = [each["name"] for each in every if "skip_reason" in each]
    if len(unknown) > 2:  # this package, and a build of torch that is not PyPI's own
        raise Failed(f"no list tells of {len(unknown)} of {len(every)} packages: {unknown[0]}, …")
    return f"no known vulnerability in {len(every) - len(unknown)} of {len(every)} packages"


STEPS: tuple[Callable[[Path], str], ...] = (build, size, install, demo, bill, audit)


def main() -> int:
    """Every step, in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, required=True)
    names = [step.__name__ for step in STEPS]
    parser.add_argument("--without", choices=names, action="append", default=[])
    args = parser.parse_args()
    into = args.into.absolute()
    into.mkdir(parents=True, exist_ok=True)
    failed = False
    for step in STEPS:
        if step.__name__ in args.without:
            print(f"{step.__name__:8s} left out", flush=True)
            continue
        try:
            print(f"{step.__name__:8s} {step(into)}", flush=True)
        except Failed as why:
            print(f"{step.__name__:8s} FAILED: {why}", flush=True)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
