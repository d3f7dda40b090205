"""Families of other packages, found by their entry points."""

import subprocess
import sys

import pytest
import torch

import whitebox_probe as wp
from tests.conftest import STEP, small_crate
from whitebox_probe._core.errors import CheckpointError, PluginError, ProbeError
from whitebox_probe.cli import main as cli
from whitebox_probe.models import registry as base

GOOD = """
from whitebox_probe.models.families.crate import CrateFamily

class Toy(CrateFamily):
    name = "toy"

    def matches(self, module):
        return type(module).__name__ == "ToyNetwork"
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a distribution of one module: (its code, its entry points) -> nothing."""

    def forget():
        for cached in (base.families, base._entries, base._added):
            cached.cache_clear()

    def install(code, *entries, name="toy-families"):
        package = name.replace("-", "_")
        (tmp_path / f"{package}.py").write_text(code)
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = "\n".join(f"{entry} = {package}:{kind}" for entry, kind in entries)
        (info / "entry_points.txt").write_text(f"[{base.GROUP}]\n{lines}\n")
        monkeypatch.syspath_prepend(tmp_path)
        forget()
        return tmp_path

    before = set(sys.modules)
    yield install
    monkeypatch.undo()
    forget()
    for module in set(sys.modules) - before:
        if "toy" in module or "other" in module:
            del sys.modules[module]


def test_a_family_of_another_package_is_found(installed):
    installed(GOOD, ("toy", "Toy"))
    assert base.families()["toy"].name == "toy"
    assert list(base.families())[-1] == "toy"
    module = base.build(
        "toy",
        {
            "image_size": 12,
            "patch_size": 4,
            "classes": 3,
            "dim": 8,
            "depth": 2,
            "heads": 2,
            "dim_head": 4,
        },
        source="a test",
    )
    module.__class__ = type("ToyNetwork", (type(module),), {})
    assert wp.wrap(module, "toy").family.name == "toy"


def test_a_plain_file_is_of_this_packages_family_beside_a_subclass(installed, tmp_path):
    installed(GOOD, ("toy", "Toy"))
    torch.save(small_crate().state_dict(), tmp_path / "x.pt")
    assert wp.load(tmp_path / "x.pt", heads=2, **STEP).family.name == "crate"


def test_a_file_of_two_packages_families_is_told_the_form_that_names_one(installed, tmp_path):
    code = """
from whitebox_probe.models.family import Recognised
from whitebox_probe.models.families.crate import CrateFamily

class Toy(CrateFamily):
    name = "toy"

    def recognise(self, shapes):
        return Recognised({}) if "a" in shapes else None

class Other(Toy):
    name = "other"
"""
    installed(code, ("toy", "Toy"), ("other", "Other"))
    torch.save({"a": torch.zeros(2)}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"are of .*other.* arch=\{'family': '(toy|other)'"):
        wp.load(tmp_path / "x.pt")


def test_a_name_that_is_taken_raises_and_names_both(installed):
    installed(GOOD.replace('"toy"', '"crate"'), ("crate", "Toy"))
    with pytest.raises(PluginError, match=r"'crate' of toy-families.*whitebox-probe has one"):
        base.families()
    with pytest.raises(PluginError):
        base.family_named("crate")
    assert base.family_named("timm_vit").name == "timm_vit"


def test_two_packages_with_one_name_raise(installed):
    installed(GOOD, ("toy", "Toy"))
    installed(GOOD, ("toy", "Toy"), name="other-toys")
    with pytest.raises(PluginError, match=r"toy_families|other_toys.*has one of that name"):
        base.families()


BROKEN = {
    "raises": ("raise ZeroDivisionError('on import')", "ZeroDivisionError: on import"),
    "lacks it": ("x = 1", "AttributeError.*Toy"),
    "no family": ("class Toy: name = 'toy'", "it gives Toy 'toy'.*subclass of Family"),
    "another name": (GOOD.replace('"toy"', '"tot"'), "whose name is 'toy'"),
    "without anatomy": (
        "from whitebox_probe.models.family import NetworkFamily\n"
        "class Toy(NetworkFamily):\n    name = 'toy'",
        "does not say how its modules are read.*reads",
    ),
    "incomplete": (
        "from whitebox_probe.models.family import Family\nclass Toy(Family):\n    name = 'toy'",
        "TypeError.*abstract",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_package_is_named_in_one_line(installed, kind):
    code, told = BROKEN[kind]
    installed(code, ("toy", "Toy"))
    with pytest.raises(PluginError, match=f"'toy' of toy-families.*{told}"):
        base.families()
    assert base.family_named("crate").name == "crate"
    with pytest.raises(ProbeError, match="Did you mean 'toy'"):
        base.family_named("tooy")


def test_commands_that_need_no_plugin_do_not_notice(installed, capsys, tmp_path):
    folder = installed("raise ZeroDivisionError('on import')", ("toy", "Toy"))
    words = ["run", "crate-tiny-fmnist", "--limit", "4", "--metrics", "l0", "--quiet"]
    assert cli.main([*words, "--out", str(tmp_path / "out")]) == 0
    assert cli.main(["list"]) == 0
    assert cli.main(["info", "timm:vit_tiny_patch16_224"]) == 0
    capsys.readouterr()
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r})\n"
        "from whitebox_probe.cli.main import main\n"
        f"sys.exit(main(['run', {str(folder / 'x.pt')!r}, '--out', {str(folder / 'o')!r}]))"
    )

    torch.save({"a": torch.zeros(2)}, folder / "x.pt")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "'toy' of toy-families" in done.stderr
