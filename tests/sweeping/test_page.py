"""The page of sweeps: what it shows is understood, and does what it says."""

import glob
import re
import shlex
from dataclasses import fields
from pathlib import Path

import matplotlib.pyplot as plt
import yaml

from whitebox_probe.cli.main import main
from whitebox_probe.probing.settings import Settings
from whitebox_probe.sweeping._schema import DATA, EXECUTION, MODEL, SCHEMA
from whitebox_probe.sweeping.file import checked
from whitebox_probe.sweeping.sweep import planned

TEXT = (Path(__file__).parents[2] / "docs" / "sweep.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", TEXT, re.S)


def test_every_key_of_a_file_is_told():
    table = TEXT.partition("## The file")[2].partition("\n\nEach setting")[0]
    known = {*SCHEMA["properties"], *MODEL, *DATA, *EXECUTION, *(f.name for f in fields(Settings))}
    assert {name for name in known if f"`{name}`" not in table} == set()


def test_its_first_file_is_swept_as_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("sweep.yaml").write_text(BLOCKS[0])
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    names = {}
    exec(compile(code, "sweep.md", "exec"), names)
    found = names["found"]
    assert [each.state for each in found.cells] == ["done"] * 6
    assert found.folder == tmp_path / "runs" / "sweep"
    assert (found.folder / "summary.parquet").is_file()
    for line in re.findall(r"```bash\n(.*?)```", TEXT, re.S)[0].splitlines():
        words = shlex.split(line, comments=True)[1:]
        spread = [sorted(glob.glob(word)) if word.startswith("runs/") else [word] for word in words]
        assert main([word for part in spread for word in part]) == 0, line
    plt.close("all")
    assert found.folder == tmp_path / "runs" / "sweep"


def test_its_other_files_are_understood():
    whole = yaml.safe_load(BLOCKS[0])
    parts = [yaml.safe_load(block) for block in BLOCKS[1:]]
    assert [next(iter(part)) for part in parts] == ["cells", "engine", "engine"]
    for part in parts:
        checked({**whole, **part}, "sweep.md")
    some = planned({**whole, **parts[0]}).sweep.cells
    assert len(some) == 2 + 6 - 1
