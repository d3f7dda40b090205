"""Files without `arch`: what is assumed and said, what is asked for, and what is refused."""

import argparse
import subprocess
import sys
import warnings

import pytest
import torch

import whitebox_probe as wp
from tests.conftest import STEP, small_crate
from whitebox_probe import checkpoints
from whitebox_probe._core.errors import ArchitectureError, CheckpointError
from whitebox_probe.cli import main as cli
from whitebox_probe.models.registry import build

CRATE = {"image_size": 12, "patch_size": 4, "channels": 3, "classes": 5, "dim": 16, "depth": 2}
GPT = {"vocabulary": 23, "block_size": 12, "dim": 16, "depth": 2, "heads": 2}
SIZES = {"heads": 2, "dim_head": 8}
# family -> its network, what a user adds, and what is assumed
ASSUMED = {
    "crate": (CRATE | SIZES, {"heads": 2}, STEP),
    "crate_alpha": (CRATE | SIZES, {"heads": 2}, STEP | {"head_eps": 1e-5}),
    "crate_mae": (
        {k: v for k, v in CRATE.items() if k != "classes"}
        | SIZES
        | {"decoder_depth": 1, "lam": 0.5},
        {"heads": 2, "lam": 0.5},
        {"eta": 0.1},
    ),
    "crate_gpt": (GPT, {"heads": 2}, STEP),
    "crate_bert": (
        {"vocabulary": 23, "positions": 14, "dim": 16, "depth": 2, "heads": 2},
        {"heads": 2},
        STEP | {"pad": 1},
    ),
    "cbt": (
        {"image_size": 12, "patch_size": 4, "dim": 16, "depth": 2, "heads": 2, "classes": 5},
        {},
        STEP,
    ),
    "tost": (
        {"patch_size": 4, "dim": 16, "depth": 2, "heads": 2, "classes": 5},
        {},
        {"tokens_norm": True},
    ),
}


def saved(folder, family, arch):
    torch.save(build(family, arch, source="a test").state_dict(), folder / "x.pth")
    return folder / "x.pth"


@pytest.mark.parametrize("family", ASSUMED)
def test_what_no_file_holds_is_assumed_with_one_warning(tmp_path, family):
    arch, added, assumed = ASSUMED[family]
    path = saved(tmp_path, family, arch)
    with pytest.warns(wp.AssumedWarning) as caught:
        model = wp.load(path, **added)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert caught[0].message.values == assumed
    text = str(caught[0].message)
    assert "\n" not in text
    for key, value in assumed.items():
        assert f"{key}={value}" in text
        assert model.entry.arch[key] == value
    assert f"Pass others with {'=, '.join(assumed)}=." in text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stated = wp.load(path, **added, **assumed)
    assert stated.entry.arch == model.entry.arch


def test_other_values_are_used(tmp_path):
    path = saved(tmp_path, "crate", CRATE | SIZES)
    with pytest.warns(wp.AssumedWarning, match=r"with eta=0\.1: "):
        model = wp.load(path, heads=2, lam=0.7)
    assert model.layer(1).operators["lam"] == 0.7
    assert (model.entry.arch["eta"], model.entry.arch["lam"]) == (0.1, 0.7)


def test_a_mapping_that_is_silent_is_completed_with_a_warning_too(tmp_path):
    arch = CRATE | SIZES
    path = saved(tmp_path, "crate", arch)
    with pytest.warns(wp.AssumedWarning, match="eta"):
        model = wp.load(path, arch=arch | {"family": "crate"})
    assert model.entry.arch == arch | STEP
    assert wp.load(path, arch=arch | STEP | {"family": "crate"}).entry.arch == arch | STEP


def test_a_named_architecture_states_its_own_values(tmp_path):
    _, arch = checkpoints.architecture("crate_tiny")
    path = saved(tmp_path, "crate", arch)
    assert wp.load(path, arch="crate_tiny").entry.arch == arch
    assert {"eta", "lam"} <= set(wp.load("crate-tiny-kjv").entry.arch)
    gpt2 = wp.load("gpt2-tiny-kjv").entry.arch
    assert (gpt2["activation_function"], gpt2["layer_norm_epsilon"]) == ("gelu_new", 1e-5)


def test_a_file_that_is_refused_warns_of_nothing(tmp_path):
    state = small_crate().state_dict()
    del state["cls_token"]
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="1 missing: cls_token"):
        wp.load(tmp_path / "x.pth", heads=2)


def test_on_the_command_line_it_is_one_line_of_the_program(tmp_path):
    path = saved(tmp_path, "crate_gpt", GPT | {"vocabulary": 258})
    (tmp_path / "book.txt").write_text("In the beginning was the token. " * 4)
    words = [path, "--set", "heads=2", "--preprocess", "text:bytes@8", "--metrics", "l0"]
    words += ["--data", tmp_path / "book.txt", "--quiet", "--out"]
    run = [sys.executable, "-m", "whitebox_probe", "run", *map(str, words)]
    done = subprocess.run([*run, str(tmp_path / "a")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == (
        f"whitebox-probe: note: {path} is loaded with eta=0.1 and lam=0.1: no file holds that and "
        "none was stated; every published model of this family has them. Pass others with "
        "--set eta=, --set lam=.\n"
    )


def test_the_command_leaves_pythons_warnings_as_they_were(tmp_path, capsys):
    before = warnings.showwarning
    path = saved(tmp_path, "crate", CRATE | SIZES)
    words = ["run", str(path), "--set", "heads=2", "--set", "eta=0.1", "--set", "lam=0.1"]
    assert cli.main([*words, "--out", str(tmp_path / "o")]) == 2  # no preprocessing is known
    assert capsys.readouterr().err.count("\n") == 1
    assert warnings.showwarning is before


RENAMED = {
    "crate": "pos_embedding",
    "crate_alpha": "conv1.weight",
    "crate_mae": "decoder_pos_embed",
    "crate_gpt": "transformer.wpe.weight",
    "crate_bert": "crate.embeddings.word_embeddings.weight",
    "cbt": "transformer.layers.0.0.fn.step_rep",
    "tost": "blocks.0.attn.temp",
}


@pytest.mark.parametrize("family", RENAMED)
@pytest.mark.parametrize("renamed", [True, False])
def test_one_mark_renamed_or_missing_is_named_with_the_nearest_family(tmp_path, family, renamed):
    arch, added, _ = ASSUMED[family]
    state = build(family, arch, source="a test").state_dict()
    key = RENAMED[family]
    tensor = state.pop(key)
    told = f"nearest to '{family}', of whose marks 1 missing: {key}"
    if renamed:
        state[f"{key}_x"] = tensor
        told += f"; 1 unexpected: {key}_x"
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(CheckpointError) as caught:
        wp.load(tmp_path / "x.pth", **added)
    assert f"{told}. Mend the keys; or pass arch=" in str(caught.value)


def test_a_mark_with_other_dimensions_is_named(tmp_path):
    state = small_crate().state_dict()
    state["pos_embedding"] = state["pos_embedding"][0]
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"wrongly shaped: pos_embedding \(10, 16\) where 3"):
        wp.load(tmp_path / "x.pth", heads=2)


def test_a_file_of_something_else_is_told_the_forms_of_arch(tmp_path):
    torch.save(torch.nn.Linear(3, 3).state_dict(), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"of no family known.*'timm:vit_.*'hf:openai") as e:
        wp.load(tmp_path / "x.pth")
    assert str(cli.as_options(e.value, cli.Options({"arch": "--arch"}))).endswith(
        "such as --arch crate_small, 'timm:vit_small_patch16_224' or 'hf:openai-community/gpt2'."
    )


@pytest.mark.parametrize("atoms", [None, 64])
def test_marks_of_both_kinds_of_crate_gpt_are_refused(tmp_path, atoms):
    state = build("crate_gpt", GPT | {"atoms": atoms}, source="a test").state_dict()
    if atoms is None:
        state |= {
            "transformer.ln_f.weight": torch.ones(16),
            "transformer.ln_f.bias": torch.ones(16),
        }
        told = r"16 x 16, as in CRATE-GPT2, and it has a final norm"
    else:
        del state["transformer.ln_f.weight"], state["transformer.ln_f.bias"]
        told = r"64 x 16, as in CRATE-LM, and it has no final norm"
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=rf"{told}.*Pass arch= with atoms"):
        wp.load(tmp_path / "x.pth", heads=2, **STEP)


def test_a_square_dictionary_with_a_final_norm_loads_where_it_is_said_to_be_one(tmp_path):
    arch = GPT | {"atoms": 16} | STEP
    path = saved(tmp_path, "crate_gpt", arch)
    assert "code" in wp.load(path, arch=arch | {"family": "crate_gpt"}).sites


def test_a_width_that_no_published_head_divides_offers_its_divisors(tmp_path):
    arch = CRATE | {"dim": 40, "heads": 4, "dim_head": 10}
    path = saved(tmp_path, "crate", arch)
    with pytest.raises(ArchitectureError, match="heads=1 or 2 or 4 or 5 or 8 or 10 or 20 or 40"):
        wp.load(path)
    with pytest.raises(CheckpointError, match=r"have 3 heads: .* width of 40. .*one of: 1, 2"):
        wp.load(path, heads=3)
    assert wp.load(path, heads=4, **STEP).dims.dim_head == 10


@pytest.mark.parametrize("heads", ["2", 2.0, True])
def test_heads_that_are_no_whole_number_are_said_to_be_none(tmp_path, heads):
    path = saved(tmp_path, "crate", CRATE | SIZES)
    with pytest.raises(CheckpointError, match="is no whole number"):
        wp.load(path, heads=heads)


@pytest.mark.parametrize("kind", [torch.int8, torch.complex64])
def test_weights_of_another_type_are_refused(tmp_path, kind):
    state = small_crate().state_dict()
    state["cls_token"] = state["cls_token"].to(kind)
    torch.save(state, tmp_path / "x.pth")
    name = str(kind).removeprefix("torch.")
    with pytest.raises(CheckpointError, match=rf"not of floating point: cls_token \({name}\)"):
        wp.load(tmp_path / "x.pth", heads=2)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_load(tmp_path, kind):
    state = {key: tensor.to(kind) for key, tensor in small_crate(dim_head=8).state_dict().items()}
    torch.save(state, tmp_path / "x.pth")
    model = wp.load(tmp_path / "x.pth", heads=2, **STEP)
    assert torch.equal(model.module.cls_token, state["cls_token"].float())


FINER = ["--set", "image_size=56", "--set", "interpolate_positions=true"]


def test_an_entry_at_another_resolution_is_given_images_of_that_size(tmp_path):
    words = ["run", "crate-tiny-fmnist", *FINER, "--limit", "2", "--metrics", "l0", "--quiet"]
    assert cli.main([*words, "--out", str(tmp_path / "out")]) == 0
    assert wp.Result.load(tmp_path / "out").run["tokens"] == 1 + 14**2
    model = wp.load("crate-tiny-fmnist", image_size=56, interpolate_positions=True)
    own = wp.load("crate-tiny-fmnist").preprocess
    assert (model.preprocess.size, model.preprocess.crop, own.size) == (56, own.crop, 28)
    named = {"preprocess": "crate-tiny-fmnist"}  # a preprocessing that is named is taken as it is
    assert wp.load("crate-tiny-fmnist", **named).preprocess == own
    vit = wp.load("vit-tiny-fmnist", weights="random", img_size=[56, 56])
    assert (vit.preprocess.size, vit.dims.tokens) == (56, 1 + 14**2)


def test_a_timm_entry_at_another_resolution_too():
    model = wp.load("vit-tiny-in1k", weights="random", img_size=112)
    assert (model.preprocess.size, model.dims.tokens) == (112, 1 + 7**2)


def test_positions_that_do_not_fit_name_the_option_that_resamples_them(tmp_path):
    with pytest.raises(CheckpointError, match=r"interpolate_positions=True \(--set interp"):
        wp.load("crate-tiny-fmnist", image_size=56)
    path = saved(tmp_path, "crate", CRATE | SIZES)
    with pytest.raises(CheckpointError, match=r"trained with; nothing was loaded"):
        wp.load(path, heads=2, classes=7)


@pytest.mark.parametrize("family", ["crate", "crate_alpha", "crate_mae", "aot"])
def test_an_image_that_is_no_whole_number_of_patches_is_refused(family):
    arch = ASSUMED.get(family, (CRATE | SIZES,))[0] | {"image_size": 65, "patch_size": 8}
    with pytest.raises(CheckpointError, match="image_size of 65 is no multiple of patch_size 8"):
        build(family, arch, source="a test")


def test_timm_is_held_to_whole_patches_too():
    arch = {"img_size": 30, "patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2}
    with pytest.raises(CheckpointError, match=r"img_size of \(30, 30\) is no multiple"):
        build("timm_vit", arch, source="a test")


def tost_gpt():
    sizes = {"vocabulary": 32, "block_size": 16, "dim": 16, "depth": 1, "heads": 2}
    return build("tost_gpt", sizes, source="a test").state_dict()


def test_a_language_tost_without_its_mark_is_not_told_as_a_gpt2(tmp_path):
    state = tost_gpt()
    del state["transformer.h.0.attn.denom_bias"]
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"nearest to 'tost_gpt'.*1 missing: .*denom_bias"):
        wp.load(tmp_path / "x.pth")


@pytest.mark.parametrize("change", ["rank", "float8"])
def test_an_odd_tied_tensor_is_refused_and_no_fault_of_ours(tmp_path, change):
    state = tost_gpt()
    key = "transformer.wte.weight"
    state[key] = state[key][0] if change == "rank" else state[key].to(torch.float8_e4m3fn)
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"wte\.weight"):
        wp.load(tmp_path / "x.pth")


NAMED = {"image_size": 32, "patch_size": 16, "channels": 3, "classes": 4, "depth": 1}
NAMED |= {"dim": 576, "heads": 12, "dim_head": 48}


def kept(folder, beside, arch=None, family="crate"):
    """A file of training, with what stands beside its weights."""
    network = build(family, arch or CRATE | SIZES, source="a test")
    torch.save({"state_dict": network.state_dict(), **beside}, folder / "x.pth")
    return folder / "x.pth"


class TestWhatIsWritten:
    """What the file, or one beside it, says of its architecture is not asked for."""

    def test_the_official_training_file_names_its_architecture(self, tmp_path):
        arch = NAMED | {"depth": 12}
        path = kept(tmp_path, {"arch": "CRATE_small", "epoch": 3, "best_acc1": 0.0}, arch)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # eta and lam are the architecture's own
            model = wp.load(path)
        assert (model.dims.heads, model.dims.dim_head) == (12, 48)
        with pytest.raises(CheckpointError, match="has 12 heads.*6 are asked for"):
            wp.load(path, heads=6)

    def test_a_name_that_the_weights_contradict_is_refused(self, tmp_path):
        path = kept(tmp_path, {"arch": "CRATE_base"}, NAMED)
        with pytest.raises(CheckpointError, match="'CRATE_base'.*dim: 768, the weights 576"):
            wp.load(path)

    @pytest.mark.filterwarnings("ignore::whitebox_probe._core.errors.AssumedWarning")
    @pytest.mark.parametrize(
        "beside",
        [
            {"args": argparse.Namespace(heads=2, lr=1e-3)},
            {"hyper_parameters": {"num_heads": 2, "lr": 1e-3}},
            {"hyper_parameters": {"model": {"n_heads": 2}}},
            {"config": {"heads": 2}},
        ],
    )
    def test_heads_by_their_usual_names(self, tmp_path, beside):
        assert wp.load(kept(tmp_path, beside)).dims.heads == 2
        with pytest.raises(CheckpointError, match="has 2 heads"):
            wp.load(tmp_path / "x.pth", heads=4)

    @pytest.mark.filterwarnings("ignore::whitebox_probe._core.errors.AssumedWarning")
    def test_a_scripts_eta_is_not_the_networks(self, tmp_path):
        beside = {"args": argparse.Namespace(heads=2, eta=7.0), "arch": "x"}
        assert wp.load(kept(tmp_path, beside)).entry.arch["eta"] == 0.1
        beside = {"hyper_parameters": {"heads": 2, "eta": 0.7}}
        assert wp.load(kept(tmp_path, beside)).entry.arch["eta"] == 0.7

    def test_what_is_not_written_is_still_asked_for(self, tmp_path):
        path = kept(tmp_path, {"args": argparse.Namespace(lr=1), "arch": "unknown"})
        with pytest.raises(ArchitectureError, match="it does not say heads"):
            wp.load(path)

    def test_timms_name_settles_heads_and_activation(self, tmp_path):
        import timm

        net = timm.create_model("vit_tiny_patch16_224", num_classes=7)
        held = {"arch": "vit_tiny_patch16_224", "state_dict": net.state_dict()}
        torch.save(held, tmp_path / "x.pth")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert wp.load(tmp_path / "x.pth").dims.heads == 3


class TestConfiguration:
    """A config.json beside the weights is what they were trained with."""

    SIZE = {"n_embd": 16, "n_layer": 2, "n_head": 4, "vocab_size": 23, "n_positions": 20}

    def saved(self, folder, **options):
        from safetensors.torch import save_file
        from transformers import GPT2Config, GPT2Model

        config = GPT2Config(**self.SIZE, bos_token_id=0, eos_token_id=0, **options)
        torch.manual_seed(0)
        network = GPT2Model(config).eval()
        save_file(network.state_dict(), folder / "model.safetensors")
        (folder / "config.json").write_text(config.to_json_string(use_diff=False))
        return network, folder / "model.safetensors"

    def test_its_activation_heads_and_eps_are_used(self, tmp_path):
        options = {"activation_function": "relu", "layer_norm_epsilon": 0.1}
        network, path = self.saved(tmp_path, scale_attn_by_inverse_layer_idx=True, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = wp.load(path)
        ids = torch.arange(14).view(2, 7)
        with torch.no_grad():
            got, want = (net(ids).last_hidden_state for net in (model.module, network))
        torch.testing.assert_close(got, want)
        with pytest.raises(CheckpointError, match="has 4 heads"):
            wp.load(path, heads=2)

    def test_one_of_other_weights_is_refused(self, tmp_path):
        _, path = self.saved(tmp_path)
        config = tmp_path / "config.json"
        config.write_text(config.read_text().replace('"n_layer": 2', '"n_layer": 3'))
        with pytest.raises(CheckpointError, match="num_hidden_layers: 3, the weights 2"):
            wp.load(path)
        config.write_text("[1]")
        with pytest.raises(CheckpointError, match="config.json cannot be read: it holds a list"):
            wp.load(path)
        config.unlink()
        with pytest.raises(ArchitectureError, match="does not say heads"):
            wp.load(path)
