"""An installed, non-editable package is whole, wherever it is run from."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The package built as a wheel and unpacked into a folder of its own."""
    folder = tmp_path_factory.mktemp("installed")
    # A copy: building leaves files in the source tree.
    source = tmp_path_factory.mktemp("source") / "copy"
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--disable-pip-version-check",
            "--target",
            str(folder),
            str(source),
        ],
        check=True,
        capture_output=True,
    )
    return folder


def run(code, installed, cwd):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"},
    )


def test_the_registry_and_the_shipped_files_are_found_from_any_folder(installed, tmp_path):
    code = (
        "import whitebox_probe as wp\n"
        "from whitebox_probe import checkpoints\n"
        "print(wp.__file__)\n"
        "print(checkpoints.registry_path())\n"
        "r = wp.probe(wp.load('crate-tiny-fmnist'), 'fashion-mnist', limit=3, progress=False)\n"
        "wp.plots.save(wp.plots.compression(r), 'figure', ['pdf'])\n"
        "print(len(r.samples))\n"
    )
    out = run(code, installed, tmp_path)
    assert out.returncode == 0, out.stderr
    lines = out.stdout.split()
    assert lines[0].startswith(str(installed))
    assert lines[1].startswith(str(installed))
    assert lines[-1] == "3"
    assert (tmp_path / "figure.pdf").is_file()


def test_there_is_one_registry_and_the_wheel_carries_it(installed):
    assert [p.name for p in installed.rglob("checkpoints.yaml")] == ["checkpoints.yaml"]
