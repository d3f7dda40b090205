"""What holds for each family and each of its examples, found unaided.

What usually holds between sites, norm and subspaces is a function of `USUAL`. A layer in which one
of them does not hold says why (`Layer.exempt`); without the reason, or with one that is out of
date, the test fails.
"""

import re
import warnings
from pathlib import Path

import pytest
import torch

import whitebox_probe as wp
from whitebox_probe._core.errors import CheckpointError
from whitebox_probe.models import families as rooms
from whitebox_probe.models.registry import families
from whitebox_probe.sites import SITES

FAMILIES = families()
EXAMPLES = [
    pytest.param(name, i, id=f"{name}-{i}")
    for name, family in FAMILIES.items()
    for i in range(len(family.example))
]
STREAM = ("z_in", "attn_out", "z_half")


def network_of(name, which):
    """A small network in float64 whose parameters all matter, and what it takes."""
    if name == "hf":
        pytest.importorskip("transformers")
    family, arch = FAMILIES[name], FAMILIES[name].example[which]
    module = family.build(arch).eval().double()
    if hasattr(getattr(module, "config", None), "_experts_implementation"):
        module.config._experts_implementation = "eager"  # the library's fused one lacks float64
    with torch.no_grad():  # biases, scales and the like start at values that hide them
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    inputs = family.inputs(arch)
    return module, inputs.double() if inputs.is_floating_point() else inputs


def output_of(module, inputs):
    """The network's output as one tensor."""
    found = module(inputs)
    return found if isinstance(found, torch.Tensor) else found[0]


def record_all(model, inputs):
    with torch.inference_mode(), wp.record(model, model.sites) as recording:
        output_of(model.module, inputs)
    return recording


def close(a, b):
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-9, atol=1e-9)


def under_its_basis(model, rec, layer):
    """(site's tokens, attn_in under U) for every basis whose heads the model makes itself."""
    for basis in model.bases:
        site = model.heads_site(basis)
        if site is not None:
            U = model.subspaces(layer, basis)
            yield rec[site, layer], rec["attn_in", layer].unsqueeze(1) @ U


def heads_for_each(model, rec, layer):
    """Every U has K heads, and so has every site of heads."""
    K = model.dims.heads
    shapes = [model.subspaces(layer, basis).shape[0] for basis in model.bases]
    shapes += [rec[s, layer].shape[1] for s in model.sites if SITES[s].per_head]
    return set(shapes) == {K}


def heads_are_projections(model, rec, layer):
    """The heads' tokens are those at attn_in under U, but for one vector a head."""
    return all(
        close((heads - projected).diff(dim=-2), torch.zeros_like(heads[..., 1:, :]))
        for heads, projected in under_its_basis(model, rec, layer)
    )


def heads_without_bias(model, rec, layer):
    """The heads' tokens are those at attn_in under U, exactly."""
    return all(close(heads, projected) for heads, projected in under_its_basis(model, rec, layer))


def attention_adds(model, rec, layer):
    """The update is added to the stream: z_in + attn_out = z_half."""
    if not set(STREAM) <= set(model.sites):
        return True
    z_in, update, z_half = (rec[site, layer] for site in STREAM)
    return close(z_in + update, z_half)


def norm_before_attention(model, rec, layer):
    """attn_in is z_in after the layer's norm, or z_in itself where there is none."""
    norm = model.layer(layer).norm
    z_in = rec["z_in", layer]
    with torch.inference_mode():
        return close(z_in if norm is None else norm(z_in), rec["attn_in", layer])


def layers_follow(model, rec, layer):
    """What leaves the layer before enters this one."""
    return layer == 1 or close(rec["z_out", layer - 1], rec["z_in", layer])


USUAL = (
    heads_for_each,
    heads_are_projections,
    heads_without_bias,
    attention_adds,
    norm_before_attention,
    layers_follow,
)


def test_every_family_has_an_example_and_says_what_was_tested():
    for family in FAMILIES.values():
        assert family.example, family.name
        assert len(family.tested) > 40, family.name


def test_no_family_imports_another():
    """What families share stands in modules whose name starts with an underscore."""
    for path in Path(rooms.__path__[0]).glob("*.py"):
        for line in path.read_text().splitlines():
            found = re.search(r"whitebox_probe\.models\.families(?:\.| import )(\w+)", line)
            assert found is None or found[1].startswith("_"), (path.name, line)


@pytest.mark.parametrize(("name", "which"), EXAMPLES)
def test_it_is_recognised_and_its_anatomy_bears_its_name(name, which):
    module, _ = network_of(name, which)
    model = wp.wrap(module)
    assert model.family.name == name
    assert model.anatomy.name == name
    assert model.layers >= 2, "one layer does not show how layers follow each other"


@pytest.mark.parametrize(("name", "which"), EXAMPLES)
def test_sites_have_the_shapes_that_their_names_promise(name, which):
    module, inputs = network_of(name, which)
    model = wp.wrap(module)
    rec, s = record_all(model, inputs), model.dims
    n = s.tokens or rec["z_in", 1].shape[1]
    wanted = {"B": len(inputs), "n": n, "d": s.dim, "p": s.dim_head}
    for layer in range(1, s.layers + 1):
        for site in model.sites:
            letters = SITES[site].shape.strip("()").split(", ")
            shape = rec[site, layer].shape
            assert len(shape) == len(letters), (site, layer)
            for letter, size in zip(letters, shape, strict=True):
                assert size == wanted.get(letter, size), (site, layer, letter)
        for basis in model.bases:
            assert model.subspaces(layer, basis).shape[1:] == (s.dim, s.dim_head), basis
    if not inputs.is_floating_point():
        assert s.tokens is None, "a text has no fixed length"
    assert model.prefix_tokens < n


@pytest.mark.parametrize(("name", "which"), EXAMPLES)
def test_hooks_change_no_bit_and_leave_no_trace(name, which):
    module, inputs = network_of(name, which)
    with torch.inference_mode():
        before = output_of(module, inputs)
        model = wp.wrap(module)
        with wp.record(model, model.sites):
            during = output_of(module, inputs)
        with pytest.raises(ZeroDivisionError), wp.record(model, model.sites):
            raise ZeroDivisionError
        after = output_of(module, inputs)
    assert torch.equal(before, during)
    assert torch.equal(before, after)
    for part in module.modules():
        assert not part._forward_hooks
        assert not part._forward_pre_hooks
        assert not part._forward_hooks_with_kwargs


@pytest.mark.parametrize("usual", USUAL, ids=lambda f: f.__name__)
@pytest.mark.parametrize(("name", "which"), EXAMPLES)
def test_what_usually_holds_does_or_the_layer_says_why_not(name, which, usual):
    module, inputs = network_of(name, which)
    model = wp.wrap(module)
    rec = record_all(model, inputs)
    for layer in range(1, model.layers + 1):
        reason = model.layer(layer).exempt.get(usual.__name__)
        holds = usual(model, rec, layer)
        assert holds or reason, f"layer {layer} of {name}: {usual.__doc__} It does not, and why?"
        assert not (holds and reason), f"layer {layer} of {name} is exempt, but need not be"


@pytest.mark.parametrize(("name", "which"), EXAMPLES)
def test_layers_are_exempt_only_from_what_is_tested(name, which):
    model = wp.wrap(network_of(name, which)[0])
    known = {usual.__name__ for usual in USUAL}
    for layer in range(1, model.layers + 1):
        assert set(model.layer(layer).exempt) <= known


@pytest.mark.parametrize(("name", "which"), EXAMPLES)
def test_its_own_file_is_loaded_with_its_arguments_and_probed(name, which, tmp_path):
    module, inputs = network_of(name, which)
    arch, module = FAMILIES[name].example[which], module.float()
    torch.save(module.state_dict(), tmp_path / "x.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", wp.AssumedWarning)
        model = wp.load(tmp_path / "x.pt", arch={"family": name, **arch})
    assert model.family.name == name
    inputs = inputs.float() if inputs.is_floating_point() else inputs
    with torch.inference_mode():  # fused attention with a bias computes otherwise for gradients
        # Weights of a file may lie elsewhere in memory, which torch 2.9 sums in another order.
        loaded, made = output_of(model.module, inputs), output_of(module, inputs)
        torch.testing.assert_close(loaded, made, rtol=1e-5, atol=1e-6)
    names = ["compression", "coding_rate"]
    sites = {} if "z_half" in model.sites else dict.fromkeys(names, "z_out")  # parallel blocks
    result = wp.probe(model, inputs, names, sites=sites, progress=False)
    assert result.run["family"] == name
    assert result.curve("compression")["mean"].gt(0).all()


@pytest.mark.parametrize(("name", "which"), EXAMPLES)
def test_what_is_recognised_in_a_file_is_what_it_was_built_with(name, which):
    family, arch = FAMILIES[name], FAMILIES[name].example[which]
    module, _ = network_of(name, which)
    shapes = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    try:
        seen = family.recognise(shapes)
    except CheckpointError as error:
        refused = error
    else:
        refused = None
    if refused is not None:  # its keys are known, and known not to settle what it computes
        assert "arch=" in refused.fix
        return
    if seen is None:
        assert not family.marked(shapes)
        return
    for key, value in seen.arch.items():
        assert arch.get(key, value) == value, key
    s = wp.wrap(module).dims
    assert seen.inner in (None, s.heads * s.dim_head)
    others = [n for n, f in FAMILIES.items() if f is not family and f.marked(shapes)]
    assert all(FAMILIES[other].recognise(shapes) is None for other in others)
