"""`whitebox-probe run` on one file of each family, in its official format, with random weights.

Families of language models are run on a text file, and probed on ids from Python.
"""

import json
import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import whitebox_probe as wp
from tests.conftest import STEP
from whitebox_probe.cli import main as cli
from whitebox_probe.models.registry import build, families

IMAGES = {"image_size": 12, "patch_size": 4, "channels": 3}
SIZES = {"dim": 16, "heads": 2, "dim_head": 8}
TIMM = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
# family -> the network, the arguments that a user adds, and what the file holds around the weights
VISION = {
    "crate": (IMAGES | SIZES | {"depth": 2, "classes": 5}, ["heads=2"], "state_dict"),
    "crate_mae": (
        IMAGES | SIZES | {"depth": 2, "decoder_depth": 2, "lam": 0.5},
        ["heads=2", "lam=0.5"],
        "model",
    ),
    "crate_alpha": (IMAGES | SIZES | {"depth": 2, "classes": 5}, ["heads=2"], None),
    "tost": ({"patch_size": 4, "dim": 16, "depth": 2, "heads": 2, "classes": 5}, [], "model"),
    "cbt": (IMAGES | {"dim": 16, "depth": 2, "heads": 2, "classes": 5}, [], "state_dict"),
    "aot": (IMAGES | SIZES | {"depth": 2, "classes": 5}, ["heads=2"], None),
    "timm_vit": (
        TIMM | {"model": "vit_tiny_patch16_224"},
        [f"{key}={value}" for key, value in TIMM.items()],
        "timm:vit_tiny_patch16_224",
    ),
    "timm_eva": (
        TIMM | {"model": "eva02_tiny_patch14_224"},
        [f"{key}={value}" for key, value in TIMM.items()],
        "timm:eva02_tiny_patch14_224",
    ),
    "timm_kin": (
        TIMM | {"model": "beit_base_patch16_224"},
        [f"{key}={value}" for key, value in TIMM.items()],
        "timm:beit_base_patch16_224",
    ),
}
# family -> the network, and the arguments that a user adds
TEXT = {
    "crate_gpt": (
        {"vocabulary": 23, "block_size": 12, "dim": 16, "depth": 2, "heads": 2, "atoms": 64},
        {"heads": 2},
    ),
    "nanogpt": (
        {"vocabulary": 23, "block_size": 12, "dim": 16, "depth": 2, "heads": 2},
        {"heads": 2, "act": "gelu"},
    ),
    "tost_gpt": ({"vocabulary": 23, "block_size": 12, "dim": 16, "depth": 2, "heads": 2}, {}),
    "crate_bert": (
        {"vocabulary": 23, "positions": 14, "dim": 16, "depth": 2, "heads": 2},
        {"heads": 2},
    ),
    "aot": (SIZES | {"depth": 2, "vocabulary": 23, "block_size": 12}, {"heads": 2}),
    "hf": (
        {
            "model_type": "gpt2",
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "vocab_size": 23,
            "max_position_embeddings": 20,
        },
        {"heads": 2},
    ),
}

NANOGPT = ("crate_gpt", "nanogpt", "tost_gpt")  # whose files hold the weights as `model`


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for i in range(4):
        pixels = random.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def state_of(family, arch):
    torch.manual_seed(1)
    return build(family, arch, source="a test").state_dict()


def command(family, folder, pictures):
    """A file of the family, and the words that run it."""
    arch, added, around = VISION[family]
    path = folder / f"{family}.pth"
    state = state_of(family, arch)
    library = around is not None and around.startswith("timm:")
    if library:
        path = folder / f"{family}.safetensors"
        save_file(state, path)
    else:
        torch.save(state if around is None else {around: state, "epoch": 3}, path)
    words = ["run", str(path), "--data", str(pictures), "--out", str(folder / "out"), "--quiet"]
    words += [word for pair in added for word in ("--set", pair)]
    words += ["--arch", around] if library else []
    return words + ["--preprocess", "imagenet"] * (not library)


def test_the_families_here_are_known():
    """A new one is loaded and probed in `contract/test_every_family.py`, by its own example."""
    assert set(VISION) | set(TEXT) <= set(families())


@pytest.mark.parametrize("family", VISION)
def test_a_file_of_the_family_runs_from_the_command_line(family, tmp_path, pictures, capsys):
    status = cli.main(command(family, tmp_path, pictures))
    out, err = capsys.readouterr()
    assert status == 0, err
    result = wp.Result.load(tmp_path / "out")
    assert result.run["family"] == family
    assert len(result.samples) == 4
    layers = 4 if family == "crate_mae" else 2
    assert len(result.curve("compression")) == result.run["layers"] == layers
    assert np.isfinite(result.curve("compression")["mean"]).all()
    assert "compression" in out


def test_masked_images_are_run_too(tmp_path, pictures, capsys):
    words = command("crate_mae", tmp_path, pictures)
    assert cli.main(words) == 0
    masked = [*words, "--set", "mask_ratio=0.75", "--overwrite"]
    whole = wp.Result.load(tmp_path / "out")
    assert cli.main(masked) == 0
    result = wp.Result.load(tmp_path / "out")
    assert result.run["network"]["arch"]["mask_ratio"] == 0.75
    assert (result.values("compression") != whole.values("compression")).all()
    capsys.readouterr()
    assert cli.main([*words, "--set", "mask_ratio=2", "--overwrite"]) == 2
    assert "mask_ratio is 2" in capsys.readouterr().err


def test_as_a_process_too(tmp_path, pictures):
    words = command("crate_mae", tmp_path, pictures)
    done = subprocess.run(
        [sys.executable, "-m", "whitebox_probe", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (run["family"], run["layers"], run["tokens"]) == ("crate_mae", 4, 10)


@pytest.mark.parametrize("family", TEXT)
def test_a_file_of_a_language_model_is_probed_on_ids(family, tmp_path):
    if family == "hf":
        pytest.importorskip("transformers")
    arch, options = TEXT[family]
    path = tmp_path / f"{family}.pth"
    state = state_of(family, arch)
    if family == "hf":
        state = {f"transformer.{key}": tensor for key, tensor in state.items()}
    torch.save({"model": state} if family in NANOGPT else state, path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", wp.AssumedWarning)
        model = wp.load(path, **options)
    assert model.family.name == family
    ids = torch.randint(2, 23, (4, 9))
    result = wp.probe(model, ids, progress=False)
    assert all(math.isfinite(v) for v in result.curve("compression")["mean"])


@pytest.mark.parametrize("family", TEXT)
def test_a_file_of_a_language_model_runs_on_a_text_file(family, tmp_path, capsys):
    if family == "hf":
        pytest.importorskip("transformers")
    arch, options = TEXT[family]
    wide = {key: 258 for key in ("vocabulary", "vocab_size") if key in arch}
    state = state_of(family, arch | wide)
    if family == "hf":
        state = {f"transformer.{key}": tensor for key, tensor in state.items()}
    torch.save({"model": state} if family in NANOGPT else state, tmp_path / "m.pth")
    (tmp_path / "book.txt").write_text(
        "In the beginning was the token, and the token was one. " * 3
    )
    words = ["run", tmp_path / "m.pth", "--preprocess", "text:bytes@8"]
    words += [word for key, value in options.items() for word in ("--set", f"{key}={value}")]
    words += ["--data", tmp_path / "book.txt", "--out", tmp_path / "out", "--quiet"]
    status = cli.main([str(word) for word in words])
    assert status == 0, capsys.readouterr().err
    result = wp.Result.load(tmp_path / "out")
    assert result.run["family"] == family
    assert len(result.samples) > 10
    assert np.isfinite(result.curve("compression")["mean"]).all()


def test_a_preprocessing_of_text_that_is_not_understood(tmp_path, capsys):
    torch.save(state_of("aot", TEXT["aot"][0]), tmp_path / "m.pth")
    words = ["run", tmp_path / "m.pth", "--set", "heads=2", "--preprocess", "text:bytes@long"]
    assert cli.main([str(word) for word in [*words, "--out", tmp_path / "o"]]) == 2
    assert "text:bytes@128" in capsys.readouterr().err


def test_what_a_file_does_not_hold_is_asked_for_as_options(tmp_path, pictures, capsys):
    words = command("crate_mae", tmp_path, pictures)
    at = words.index("--set")
    assert cli.main(words[:at] + words[at + 4 :]) == 2
    err = capsys.readouterr().err
    assert "--set heads=" in err
    assert "--set lam=0.5 or 5.0" in err
    assert "or --arch" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("added", "told"),
    [
        (["--set", "heads"], "KEY=VALUE"),
        (["--set", "heads=2"], "given twice"),
        (["--set", "seed=2"], "no argument of a network"),
        (["--set", "width=2"], "width"),
        (["--preprocess", "imagenett"], "given twice"),
    ],
)
def test_wrong_settings_are_told_in_one_line(added, told, tmp_path, pictures, capsys):
    try:
        status = cli.main([*command("crate_mae", tmp_path, pictures), *added])
    except SystemExit as stop:
        status = stop.code
    err = capsys.readouterr().err
    assert status == 2
    assert told in err
    assert err.count("\n") == 1


def test_a_preprocessing_that_is_mistyped_is_told(tmp_path, pictures, capsys):
    words = command("crate_mae", tmp_path, pictures)
    words[words.index("--preprocess") + 1] = "imagenett"
    assert cli.main(words) == 2
    assert "Did you mean 'imagenet'" in capsys.readouterr().err


def test_without_a_preprocessing_it_is_asked_for(tmp_path, pictures, capsys):
    words = command("crate", tmp_path, pictures)
    at = words.index("--preprocess")
    assert cli.main(words[:at] + words[at + 2 :]) == 2
    assert "--preprocess imagenet" in capsys.readouterr().err


def test_a_file_may_be_prepared_as_an_entry_is(tmp_path):
    torch.save(state_of("crate", VISION["crate"][0]), tmp_path / "x.pt")
    as_entry = wp.load(tmp_path / "x.pt", heads=2, **STEP, preprocess="crate-tiny-fmnist")
    assert as_entry.preprocess == wp.load("crate-tiny-fmnist").preprocess
    named = wp.load(tmp_path / "x.pt", heads=2, **STEP, preprocess="imagenet")
    assert named.preprocess == wp.Preprocess.imagenet(12)
    own = wp.Preprocess(size=12, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert wp.load(tmp_path / "x.pt", heads=2, **STEP, preprocess=own).preprocess == own
