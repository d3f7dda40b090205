"""checkpoints.yaml is valid, and a list that is not is refused by entry and field."""

import subprocess
import sys
from pathlib import Path

import pytest

from whitebox_probe import checkpoints
from whitebox_probe._core.errors import RegistryError
from whitebox_probe.checkpoints import REGISTRY_VARIABLE, registry

GOOD = """
checkpoints:
  one:
    family: crate
    arch: {dim: 8}
    source: {kind: path, path: weights/one.pth}
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "list.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    "name",
    ["crate-tiny-fmnist", "crate-tiny-fmnist-init", "vit-tiny-fmnist", "vit-tiny-fmnist-init"],
)
def test_the_embedded_checkpoints_are_listed(name: str) -> None:
    assert checkpoints.entry(name).source["file"] == f"weights/{name}.safetensors"


def test_the_architectures_are_the_papers() -> None:
    sizes = {
        "crate_tiny": (384, 6, 64, 12),
        "crate_small": (576, 12, 48, 12),
        "crate_base": (768, 12, 64, 12),
        "crate_large": (1024, 16, 64, 24),
    }
    for name, size in sizes.items():
        family, arch = checkpoints.architecture(name)
        assert family == "crate"
        assert tuple(arch[key] for key in ("dim", "heads", "dim_head", "depth")) == size


PUBLIC = {  # where the lineage's public checkpoints are: a Drive id, or a repository and its file
    "crate-small-in1k": "1hYgDJl4EKHYfKprwhEjmWmWHuxnK6_h8",
    "crate-demo-in21k": "crate-demo.pth",
    "cbt-tiny-in1k": "1GovOGBPDkHJDpOYX8KVJJeDrjwQvHfhb",
    "cbt-small-in1k": "1sKZBbIxvgPJmfO89TKaggKD0EdUJ7jSu",
    "cbt-base-in1k": "1CouOjiy3T9YRhYJFk4gL8PVOgiJ-bFgn",
    "cbt-large-in1k": "1xdEClU6xb5qSwxvDZROKfLac8mJ7R6vb",
    "crate-mae-base": "11i5BMwymqOsunq44WD3omN5mS6ZREQPO",
    "crate-mae-base-lam0.5": "1NKgKLBcvtDB_EAjFF74Luql2pwCtFTpo",
    "crate-mae-base-lam5.0": "crate-mae-base-lmd5.0-checkpoint-799.pth",
    "crate-alpha-b16-in1k": "torch/crate_alpha_B16.pth",
    "crate-alpha-l14-in1k": "torch/crate_alpha_L14.pth",
    "crate-alpha-b16-in1k-jax": "jax/crate_alpha_B16_in1k.npz",
    "crate-alpha-b8-in1k": "jax/crate_alpha_B8_in1k.npz",
    "crate-alpha-l14-in1k-jax": "jax/crate_alpha_L14_in1k.npz",
    "crate-alpha-l8-in1k": "jax/crate_alpha_L8_in1k.npz",
    "crate-alpha-b16-in21k": "torch/in21k_Pretrain/crate_alpha_B16_IN21K",
    "crate-alpha-b8-in21k": "torch/in21k_Pretrain/crate_alpha_B8_IN21K",
    "crate-alpha-l14-in21k": "torch/in21k_Pretrain/crate_alpha_L14_IN21K",
    "crate-alpha-l8-in21k": "torch/in21k_Pretrain/crate_alpha_L8_IN21K",
    "crate-alpha-b32-in21k": "torch/in21k_Pretrain/crate_alpha_B32_in21k.pth",
    "crate-alpha-l32-in21k": "torch/in21k_Pretrain/crate_alpha_L32_in21k.pth",
    "crate-alpha-l14-clipa": "torch/crate_alpha_CLIPA_L14.pth",
    "crate-alpha-h14-clipa": "torch/crate_alpha_CLIPA_H14.pth",
    "crate-gpt2-base": "JackBAI/CRATE-GPT2-Base",
    "crate-lm-12l-pile": "ckpt-crate-12l-overparam-600000.pt",
    "crate-bert-base": "jackbai/crate-base",
    "simdino-base-in1k": "1nqcX0IgKQ8H3ZFJKaEx_O5wTVqdorLyQ",
    "simdino-large-in1k": "1jy27VYHHSxllMqWr5DiKk80y9ZBrKkPV",
    "simdinov2-base-in1k": "1g_f3aEFdfiKCn8IH11Y4FwtEDu1pPbQv",
    "simdinov2-large-in1k": "1IotEWszh1chGtzwl8X_ul6j3ACT7Tn6i",
    "simdino-baseline-dino-base": "1o-FtJ0TDNPAZiREa_qjGENksYL_3Ohc8",
    "simdino-baseline-dinov2-base": "1QZpUkC_yX2V9rWqHW3qLTFfvD6BUqyN_",
    "simdino-baseline-dinov2-large": "1p-cUWNShnZEFBJ_mnw77HnvCFIV0FthN",
}


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_checkpoint_of_the_lineage_has_an_entry(name: str) -> None:
    source = checkpoints.entry(name).source
    assert PUBLIC[name] in (
        source.get("file"),
        *(source.get(k) for k in ("id", "repo", "filename")),
    )


def test_an_entry_that_nobody_can_fetch_says_how_others_got_its_file() -> None:
    alone = [e for e in registry().values() if checkpoints.by_hand(e)]
    assert {e.name for e in alone} >= {"crate-demo-in21k", "crate-gpt2-base", "crate-bert-base"}
    assert all(e.note for e in alone)
    assert "no link" in (checkpoints.entry("crate-mae-base-lam5.0").note or "")
    assert "demo Colab" in (checkpoints.entry("crate-small-in1k").note or "")


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(RegistryError, match=r"no checkpoint 'crate-smal-in1k'.*'crate-small-in1k'"):
        checkpoints.entry("crate-smal-in1k")
    with pytest.raises(RegistryError, match=r"no architecture 'crate_smal'.*Did you mean"):
        checkpoints.architecture("crate_smal")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("family: crate", "family: 3", r"entry 'one', field 'family' .*3 must be string"),
        ("    family: crate\n", "", r"entry 'one' .*must contain .*'family'"),
        ("kind: path", "kind: ftp", r"entry 'one', field 'source.kind' .*'ftp' must be one of"),
        ("path: weights/one.pth", "url: x", r"entry 'one', field 'source' "),
        (
            "arch: {dim: 8}",
            "arch: {dim: 8}\n    sha256: abc",
            r"entry 'one', field 'sha256' .*'abc' must match",
        ),
        (
            "arch: {dim: 8}",
            "arch: {dim: 8}\n    colour: red",
            r"entry 'one' .*must not contain .*'colour'",
        ),
        ("kind: path, path: weights/one.pth", "kind: packaged, file: ../one", "'source.file'"),
        ("  one:", "  one/two:", "'one/two' does not match"),
        ("    family: crate\n", "    family: crate\n    family: crate\n", "'family' stands twice"),
        ("checkpoints:", "checkpoint:", "the top level"),
        ("arch: {dim: 8}", "arch: {dim: 8", "is not YAML"),
        ("arch: {dim: 8}", "arch: {dim: 8}\n    wrapper: [a]", "'one', field 'wrapper' .*string"),
        ("kind: path, path: weights/one.pth", "kind: hand", r"'source' .*'filename'"),
        ("kind: path, path: weights/one.pth", "kind: huggingface, repo: a/b", r"'revision'"),
    ],
)
def test_a_bad_entry_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(RegistryError, match=message):
        registry(write(tmp_path, GOOD.replace(old, new)))


@pytest.mark.parametrize(
    ("preprocess", "message"),
    [
        ("{tokenizer: a.json}", r"must contain \['length'\]"),
        ("{tokenizer: a.json, length: 8, mean: [0.5]}", r"must not contain \{'mean'\}"),
        ("{tokenizer: ../a.json, length: 8}", r"must match"),
        ("{size: 8, length: 8, mean: [0.5], std: [0.5]}", r"must not contain \{'length'\}"),
    ],
)
def test_preprocessing_is_of_images_or_of_text(
    tmp_path: Path, preprocess: str, message: str
) -> None:
    file = write(tmp_path, f"{GOOD}    preprocess: {preprocess}\n")
    with pytest.raises(RegistryError, match=message):
        registry(file)


def test_a_name_given_twice_is_refused(tmp_path: Path) -> None:
    second = GOOD + GOOD.removeprefix("\ncheckpoints:\n")
    with pytest.raises(RegistryError, match=r"'one' stands twice in .*the second is on line 7"):
        registry(write(tmp_path, second))


def test_a_users_own_list_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REGISTRY_VARIABLE, str(write(tmp_path, GOOD)))
    assert "crate-small-in1k" in registry()
    assert checkpoints.entry("one").source["path"] == str(tmp_path / "weights" / "one.pth")


def test_a_users_own_list_cannot_change_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = write(tmp_path, GOOD.replace("one:", "crate-small-in1k:"))
    monkeypatch.setenv(REGISTRY_VARIABLE, str(own))
    with pytest.raises(RegistryError, match=r"'crate-small-in1k' in .* is already in"):
        registry()


def test_a_list_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REGISTRY_VARIABLE, str(tmp_path / "none.yaml"))
    with pytest.raises(RegistryError, match=r"none.yaml cannot be read.*WHITEBOX_PROBE_REGISTRY"):
        registry()


def test_what_a_caller_changes_does_not_stay(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD)
    registry(file)["one"].arch["dim"] = 9  # type: ignore[index]
    assert registry(file)["one"].arch["dim"] == 8


def test_listing_does_not_import_torch() -> None:
    code = (
        "import sys; from whitebox_probe import checkpoints; checkpoints.registry(); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
