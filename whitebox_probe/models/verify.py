"""Whether sites and subspaces are what a module computes: tried once, when a model is made.

Every layer is run on a few tokens, and what its `Layer` says of it is checked: shapes, that both
updates are added, that the subspaces give the heads' tokens, that the attention's weights give its
context, that its attention looks ahead or does not, as stated. What a layer is `exempt` from is not
asked of it. Layers that are mapped by their paths cannot be run alone: of those it is tried on the
example, if there is one, that they do not look ahead where that is stated. The module is left as it
was: its modes, the random state, its hooks, what its parts and their configurations hold. Weights
that a hook makes in front of each pass are made first.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from whitebox_probe._core.errors import NonFiniteError, ProbeError, SiteError
from whitebox_probe._core.gate import said
from whitebox_probe._core.process import callers_device
from whitebox_probe.models.anatomy import Layer, Tap
from whitebox_probe.models.causality import expect_causality
from whitebox_probe.models.guest import guest, state
from whitebox_probe.models.hooks import attach_taps
from whitebox_probe.models.model import ProbeModel
from whitebox_probe.models.offloaded import without_weights
from whitebox_probe.models.weights import at_home, tokens
from whitebox_probe.sites import SITES

_tried: WeakKeyDictionary[nn.Module, tuple[int, object]] = WeakKeyDictionary()
_SECOND, _CONTEXT = "the second step's update", "the attention's context"


def verified(model: ProbeModel) -> ProbeModel:
    """The model, once it has been tried; one on the meta device has no numbers to try.

    Raises: SiteError naming the layer and the part that is not as its family says; NonFiniteError
        naming the first layer that is not finite, where attention is stated to be causal.
    """
    module, anatomy = model.module, model.anatomy
    if without_weights(module):
        return model
    trial = anatomy.trial(module)
    with guest(module):
        if trial is None:
            _try_projections(model)
        else:
            layers = {n: model.layer(n) for n in range(1, model.layers + 1)}
            _try_layers(model, layers, callers_device()(trial))
    _tried[module] = (id(anatomy), state(module))
    return model


def verified_on(model: ProbeModel, example: Tensor, *, exchanged: bool) -> None:
    """See of a mapped model that attention which is stated to be causal does not look ahead.

    Args: example: an input of the whole module. exchanged: whether tokens (B, n, d) enter its
        first layer, of which another one can be put last.
    Raises: SiteError naming the layer.
    """
    layers = {n: model.layer(n) for n in range(1, model.layers + 1)}
    if without_weights(model.module) or not all(each.causal for each in layers.values()):
        return
    if exchanged:
        taps_of = layers[1].taps
        entry = replace(taps_of["z_in"], transform=None)
        layers[1] = replace(layers[1], taps={**taps_of, "z_in": entry})
    asked = [(site, n) for n in layers for site in ("attn_out", "attn_weights")]
    taps = [(site, n, layers[n].taps[site]) for site, n in asked if site in layers[n].taps]
    found: dict[tuple[str, int], Tensor] = {}

    def keep(site: str, number: int, tensor: Tensor) -> None:
        found[site, number] = tensor.clone()

    def trial() -> None:
        with callers_device():
            model.module(example)

    with guest(model.module):
        with attach_taps(model.module, taps, keep):
            trial()
        of = {n: {site: Z for (site, at), Z in found.items() if at == n} for n in layers}
        _expect_judgeable(model, layers, of)
        for (site, n), tensor in found.items():
            if site == "attn_weights" and bool(tensor.triu(1).any()):
                raise _failed(model, n, "an attention that sees later tokens, and is said not to")
        expect_causality(model, layers, trial, {n: found.get(("attn_out", n)) for n in layers})


def verified_again(model: ProbeModel) -> ProbeModel:
    """The model, tried once more where something of it has changed since it was tried.

    Raises: SiteError, as `verified` does.
    """
    same = _tried.get(model.module) == (id(model.anatomy), state(model.module))
    return model if same else verified(model)


def _try_layers(
    model: ProbeModel, layers: Mapping[int, Layer], trial: Callable[[], object]
) -> None:
    """Run the layers on a few tokens, and check each."""
    taps: list[tuple[str, int, Tap]] = []
    for n, layer in layers.items():
        taps += [(site, n, tap) for site, tap in layer.taps.items()]
        extra = {_SECOND: layer.second, _CONTEXT: layer.context}
        taps += [(what, n, tap) for what, tap in extra.items() if tap is not None]
    found: dict[int, dict[str, Tensor]] = {n: {} for n in layers}

    def keep(name: str, number: int, tensor: Tensor) -> None:
        here = found[number]
        if name in here:
            raise _failed(model, number, f"'{name}' passes more than once in a forward pass")
        here[name] = tensor.clone()

    def run() -> None:
        try:
            trial()
        except ProbeError:
            raise
        except Exception as error:  # whatever the model's own code raises
            raise SiteError(
                f"{model.name} cannot be tried on a small input",
                said(error) or type(error).__name__,
                _remedy(model.module),
            ) from error

    with attach_taps(model.module, taps, keep):
        run()
    _expect_judgeable(model, layers, found)
    expect_causality(model, layers, run, {n: here.get("attn_out") for n, here in found.items()})
    for n, layer in layers.items():
        missing = [name for name, at, _ in taps if at == n and name not in found[n]]
        if missing:
            raise _failed(model, n, f"'{missing[0]}' does not pass in a forward pass")
        _check(model, layer, found[n], found.get(n - 1, {}).get("z_out"))


def _expect_judgeable(
    model: ProbeModel, layers: Mapping[int, Layer], found: Mapping[int, Mapping[str, Tensor]]
) -> None:
    """Tell attention that is not finite as such, where it would be taken for another fault or none.

    Causal attention of NaN, which is no zero, seems to look ahead. Torch's fused attention makes
    numbers of it, which are all finite. Other values are found when they are measured.

    Raises: NonFiniteError naming the first layer that is not.
    """
    for n, got in found.items():
        weights = got.get("attn_weights")
        if weights is None or bool(weights.isfinite().all()):
            continue
        hidden = "attn_out" in got and bool(got["attn_out"].isfinite().all())
        if not layers[n].causal and not hidden:
            continue
        bad = _not_finite(model.module)
        first = next((n for n, got in found.items() if not _finite(got)), n)
        if bad:
            why = f"{len(bad)} of its weights hold NaN or infinity, the first is '{bad[0]}'"
        else:
            why = "its parameters are finite, and what it makes of them is not"
        raise NonFiniteError(
            f"layer {first} of {type(model.module).__name__} computes what is not finite",
            why,
            "Check the weights: the training may have diverged, or their type is too small",
        )


def expect_finite_weights(model: ProbeModel) -> None:
    """Refuse weights that hold NaN or infinity.

    What is computed of them may be finite: torch's fused attention makes numbers of NaN.

    Raises: NonFiniteError naming the first of them.
    """
    if bad := _not_finite(model.module):
        raise NonFiniteError(
            f"{model.name} has weights that are not finite",
            f"{len(bad)} of them hold NaN or infinity, the first is '{bad[0]}'",
            "Take weights from before the training diverged",
        )


def _not_finite(module: nn.Module) -> list[str]:
    """The names of the parameters with NaN or infinity, among plain ones that are here."""
    plain = (
        (name, p.data)
        for name, p in module.named_parameters()
        if type(p.data) is Tensor and p.layout is torch.strided and not p.is_nested
        if p.is_floating_point() and p.itemsize > 1 and p.numel()
    )
    ends = ((name, _told(data).aminmax()) for name, data in plain if not data.is_meta)
    return [name for name, (low, high) in ends if not (low.isfinite() & high.isfinite())]


def _told(data: Tensor) -> Tensor:
    """A tensor with what it repeats left out: one that is expanded may be larger than memory."""
    for axis, step in enumerate(data.stride()):
        data = data.narrow(axis, 0, 1) if step == 0 else data
    span = 1 + sum((n - 1) * step for n, step in zip(data.shape, data.stride(), strict=True))
    if data.numel() <= span:
        return data
    return data.as_strided((span,), (1,), data.storage_offset())  # it overlaps itself


def _finite(got: Mapping[str, Tensor]) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in got.values())


def _remedy(module: nn.Module) -> str:
    """What to do with a model that did not run: its types, if it has several, may be why."""
    kinds = {str(p.dtype).removeprefix("torch.") for p in module.parameters()}
    if len(kinds & {"float64", "float32", "bfloat16", "float16"}) > 1:
        return f"Convert it to one type, as its weights are of {' and '.join(sorted(kinds))}"
    return "Use a model that takes images or token ids alone"


def _check(
    model: ProbeModel, layer: Layer, got: Mapping[str, Tensor], before: Tensor | None
) -> None:
    """What usually holds in a layer, on the tensors of one pass."""
    n = layer.number
    _check_shapes(model, layer, got)
    norms = layer.after or (None, None)
    if {"z_in", "attn_out", "z_half"} <= set(got):
        exempt = "attention_adds" in layer.exempt and layer.after is None
        if not exempt and not _adds(got["z_in"], got["attn_out"], got["z_half"], norms[0]):
            raise _failed(model, n, "an update by the attention that is not simply added")
    if _SECOND in got:
        half = got.get("z_half")  # none in parallel blocks, whose two updates are added at once
        half = _at(model, n, got, "z_in") + got.get("attn_out", 0) if half is None else half
        if not _adds(half, got[_SECOND], _at(model, n, got, "z_out"), norms[1]):
            raise _failed(model, n, "an update by the MLP that is not simply added")
    if "norm_before_attention" not in layer.exempt and {"z_in", "attn_in"} <= set(got):
        Z = got["z_in"]
        if not _close(Z if layer.norm is None else at_home(layer.norm, Z), got["attn_in"]):
            raise _failed(model, n, "an attention whose input is not what its norm makes of z_in")
    follows = before is None or "layers_follow" in layer.exempt
    if before is not None and not follows and not _close(before, _at(model, n, got, "z_in")):
        raise _failed(model, n, "an input that is not what the layer before gives")
    for basis in model.bases:
        site = model.heads_site(basis)
        if site is not None and "heads_are_projections" not in layer.exempt:
            _check_heads(model, n, basis, got[site], _at(model, n, got, "attn_in"))
    _check_context(model, layer, got)
    if layer.update is not None:
        made = layer.update(_at(model, n, got, "attn_in"))
        if not _close(made, _at(model, n, got, "attn_out")):
            raise _failed(model, n, "an attention that is not the one of its family")
    _check_step(model, layer, got)
    if "attn_weights" in got:
        later = not bool(got["attn_weights"].triu(1).any())
        if later != layer.causal and got["attn_weights"].shape[-1] > 1:
            told = "sees no later token" if later else "sees later tokens"
            raise _failed(model, n, f"an attention that {told}, and is said to do otherwise")


def _at(model: ProbeModel, number: int, got: Mapping[str, Tensor], site: str) -> Tensor:
    """The tensor of a site that another part of the layer is checked by.

    Raises: SiteError where no such site is mapped.
    """
    if site not in got:
        raise SiteError(
            f"layer {number} of {type(model.module).__name__} cannot be checked",
            f"'{site}' is not mapped, by which its other sites and its subspaces are",
            f"Add '{site}' to the sites of the mapping",
        )
    return got[site]


def _check_context(model: ProbeModel, layer: Layer, got: Mapping[str, Tensor]) -> None:
    """The attention's weights, times the values, give its context, or what its map makes of it."""
    V = got.get("heads_v", got.get("heads"))
    if V is None or "attn_weights" not in got or (_CONTEXT not in got and layer.out is None):
        return
    A = got["attn_weights"].to(V)
    V = V.repeat_interleave(A.shape[1] // V.shape[1], dim=1)  # of queries that share them
    made = (A @ V).transpose(1, 2).flatten(2)
    want = got.get(_CONTEXT)
    if want is None and layer.out is not None:
        made, want = at_home(layer.out, made), got.get("attn_out")
    if want is not None and not _close(made, want):
        what = "an attention that is not the softmax of its heads' q k^T"
        raise _failed(model, layer.number, what)


def _check_step(model: ProbeModel, layer: Layer, got: Mapping[str, Tensor]) -> None:
    """A proximal step in a square dictionary gives z_out of mlp_in, by its operators."""
    D, lam, eta = (layer.operators.get(name) for name in ("D", "lam", "eta"))
    square = isinstance(D, Tensor) and D.shape[0] == D.shape[1]
    if not square or lam is None or eta is None or "code" in got or not {"mlp_in"} <= set(got):
        return
    assert isinstance(D, Tensor)
    Y = got["mlp_in"]
    made = torch.relu(Y + eta * (Y - Y @ D.to(Y).mT) @ D.to(Y) - eta * lam)
    if not _close(made, _at(model, layer.number, got, "z_out")):
        raise _failed(model, layer.number, "a second step that is not the proximal one of its D")


def _check_shapes(model: ProbeModel, layer: Layer, got: Mapping[str, Tensor]) -> None:
    s = model.dims
    count = got["z_in"].shape[1] if "z_in" in got else None
    U = {basis: model.subspaces(layer.number, basis) for basis in model.bases}
    own = {model.heads_site(basis): each for basis, each in U.items()}
    for basis, each in U.items():
        first = model.subspaces(1, basis).shape
        if each.shape != first or each.shape[1:] != (s.dim, s.dim_head):
            told = f"subspaces '{basis}' of shape {tuple(each.shape)}, not {tuple(first)}"
            raise _failed(model, layer.number, told)
    for site, tensor in got.items():
        if site not in SITES:
            continue
        letters = SITES[site].shape.strip("()").split(", ")
        heads = len(own[site]) if site in own else s.heads
        wanted = {"B": 1, "n": count, "d": s.dim, "p": s.dim_head, "K": heads}
        sizes = tuple(wanted.get(letter) for letter in letters)
        fits = len(sizes) == tensor.ndim and all(
            want in (None, size) for want, size in zip(sizes, tensor.shape, strict=True)
        )
        if not fits:
            told = ", ".join(f"{k} = {v}" for k, v in wanted.items() if v is not None)
            raise _failed(
                model,
                layer.number,
                f"'{site}' of shape {tuple(tensor.shape)}, not {SITES[site].shape} with {told}",
            )


def _check_heads(
    model: ProbeModel, number: int, basis: str, heads: Tensor, entering: Tensor
) -> None:
    """Heads' tokens are those at attn_in under U, but for one vector a head (a bias)."""
    U = model.subspaces(number, basis).to(entering)
    made = entering.unsqueeze(1) @ U
    got, want = (x.double() - x.double().mean(dim=-2, keepdim=True) for x in (heads, made))
    if got.shape != want.shape or not _near(got, want, heads.double(), heads.dtype):
        raise _failed(
            model, number, f"a projection that is not the weight from which '{basis}' is read"
        )


def _try_projections(model: ProbeModel) -> None:
    """Of a model whose layers cannot be run alone: its projections, on random tokens."""
    for n in range(1, model.layers + 1):
        layer = model.layer(n)
        for basis in model.bases:
            site = model.heads_site(basis)
            tap = None if site is None else layer.taps.get(site)
            if tap is None or tap.side != "output" or "heads_are_projections" in layer.exempt:
                continue
            part = model.module.get_submodule(tap.module)
            weight = getattr(part, "weight", None)
            if not isinstance(weight, Tensor) or weight.ndim != 2:
                continue
            entering = tokens(model.module, model.dims.dim)
            heads = tap.read((), part(entering))
            _check_heads(model, n, basis, heads, entering)


def _adds(before: Tensor, update: Tensor, after: Tensor, norm: nn.Module | None) -> bool:
    """Whether the update is added, and then normalised where there is a norm behind it."""
    if norm is not None:
        return _close(at_home(norm, before + update), after)
    got, want = after.double() - before.double(), update.double()
    return _near(got, want, after.double(), after.dtype)


def _close(got: Tensor, want: Tensor) -> bool:
    if got.shape != want.shape:
        return False
    return _near(got.double(), want.double(), want.double(), want.dtype)


def _near(got: Tensor, want: Tensor, whole: Tensor, dtype: torch.dtype) -> bool:
    """Whether two tensors differ by no more than rounding: of themselves, and of the whole.

    Values that are not finite cannot be told apart, and are found when they are measured.
    """
    exact = dtype in (torch.float32, torch.float64)
    slack, eps = (2e-3 if exact else 5e-2), 64 * torch.finfo(dtype).eps
    apart, size, all_of = (x.norm() for x in (got - want, want, whole))
    if not bool(torch.isfinite(apart)):
        return True
    return bool(apart <= slack * size + eps * all_of)


def _failed(model: ProbeModel, number: int, what: str) -> SiteError:
    return SiteError(
        f"layer {number} of {type(model.module).__name__} is not understood",
        f"it has {what}",
        "Use a model whose blocks compute as those of its family do, merge adapters into its "
        "weights, or map its modules with wrap(module, sites=...)",
    )
