"""What a measure is given: the tokens of a layer, and the products that several measures share."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from whitebox_probe._core import onednn
from whitebox_probe._core.errors import DataError, ProbeError
from whitebox_probe.metrics import _linalg
from whitebox_probe.sites import is_residual

HEADS = "{heads}"
"""Stands for the per-head tokens of the basis in use: `heads`, `heads_k` and its like, or a
projection of `attn_in` where the model itself has no such site."""

Norm = Callable[[Tensor], Tensor]

MEAN, MEAN_OF = "mean_update", "mean_update_of"
"""Operators of a layer that an audit measures first: its mean update over samples at each place of
a window, (n, d), and of each sample its number, and how many of them have its content, (N, 2)."""
SPECTRAL = 7
"""So many eps cost more by factors than by the eigenvalues, which serve them all."""


@dataclass
class Products:
    """The tokens of a layer and batch, and what was computed of them, however many look at them.

    Attributes:
        tokens: site -> tensor. operators: what the layer's steps are made of (`D`, `lam`, `eta`).
        extra: which tokens of a window are no patches; of attention maps, which stay whole, which
            rows and columns. ids: the samples' numbers, (B,).
        grid: rows and columns of patches, where they are on a grid. class_index: which token of a
            window is the class token; None where there is none, or it is left out. class_rows:
            which of the measured tokens it is, (B,), where masks leave some out (-1: itself).
        places: where in its window each measured token stands, (B, n), where masks leave some out:
            counted behind padding in front. without: which tokens of whole windows are left out.
        precisions: with how many eps rates are taken: many are taken from eigenvalues.
        causal: whether the attention lets a token see itself and those before it alone.
    """

    tokens: dict[str, Tensor]
    operators: Mapping[str, Tensor | float] = field(default_factory=dict)
    extra: tuple[int, ...] = ()
    ids: Tensor | None = None
    precisions: int = 1
    grid: tuple[int, int] | None = None
    class_index: int | None = None
    class_rows: Tensor | None = None
    places: Tensor | None = None
    without: tuple[int, ...] = ()
    causal: bool = False
    made: dict[tuple[Hashable, ...], Tensor] = field(default_factory=dict)

    def forget(self, site: str) -> None:
        """Let go of a site's tokens and of what was computed from them."""
        self.tokens.pop(site, None)
        for key in [key for key in self.made if key[1] == site]:
            del self.made[key]


class LayerTokens:
    """The tokens of one layer and batch, under one basis and one norm.

    Args:
        products: the tokens, or site -> tensor. U: the layer's subspaces, (K, d, p), if a measure
            needs them. norm: the layer's attention norm, if rates are taken on normalised tokens;
            exact_norm: the same of float64 tokens, where rates are subtracted (`norm` itself).
        heads: the site that holds the per-head tokens of this basis; None where none does, and
            those at `attn_in` are projected. basis: tells this U from others of the same tokens.
    """

    def __init__(
        self,
        products: Products | dict[str, Tensor],
        U: Tensor | None = None,
        *,
        norm: Norm | None = None,
        exact_norm: Norm | None = None,
        heads: str | None = None,
        basis: Hashable = None,
    ) -> None:
        self._products = products if isinstance(products, Products) else Products(products)
        self.U = U
        self.norm = norm
        self.exact_norm = norm if exact_norm is None else exact_norm
        self._heads = heads
        self._basis = basis

    @property
    def ids(self) -> Tensor | None:
        """The samples' numbers, (B,), if known."""
        return self._products.ids

    @property
    def extra(self) -> tuple[int, ...]:
        """Which tokens of a window are no patches."""
        return self._products.extra

    def mean_update(self) -> Tensor:
        """The mean update of other samples at the place of each token: (B, n, d), float64.

        The sample's own part of the mean, and that of its copies, is taken out, where it has one.

        Raises: ProbeError where the layer's is not known.
        """
        D = _linalg.upcast(self.at("attn_out"))
        mean, of = self.operator(MEAN), self.operator(MEAN_OF)
        assert isinstance(mean, Tensor)
        assert isinstance(of, Tensor)
        if not mean.numel():
            return torch.zeros_like(D)
        places = self._products.places
        if places is None:
            kept = [i for i in range(len(mean)) if i not in self._products.without]
            places = torch.tensor(kept[: D.shape[1]])[None]
        here = mean.to(D)[places.to(D.device)].expand_as(D)
        if self.ids is None or len(of) < 2:
            return here
        numbers, copies = of.to(self.ids.device).T
        same = ((self.ids[:, None] == numbers) * copies).sum(dim=1).to(D)[:, None, None]
        rest = (len(of) - same).clamp_min(1)  # nobody else: no mean of others
        return torch.where(same < len(of), (len(of) * here - same * D) / rest, here)

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of patches, where they are on a grid that is known."""
        return self._products.grid

    @property
    def class_index(self) -> int | None:
        """Which token is the class token; None where there is none, or it is left out."""
        return self._products.class_index

    @property
    def causal(self) -> bool:
        """Whether the attention lets a token see itself and those before it alone."""
        return self._products.causal

    @property
    def sweeps(self) -> bool:
        """Whether a rate is taken with several eps, which share what is computed before."""
        return self._products.precisions > 1

    def at(self, site: str) -> Tensor:
        """The tokens at a site, as they are; of `HEADS`, those of this basis."""
        tokens = self._products.tokens
        if site != HEADS or HEADS in tokens:
            return tokens[site]
        if self._heads is not None:
            return tokens[self._heads]
        return self.once("projected", site, lambda: project(tokens["attn_in"], self.U))

    def once(
        self,
        what: str,
        site: str,
        compute: Callable[[], Tensor],
        *,
        of_basis: bool = True,
        of_norm: bool = True,
    ) -> Tensor:
        """Compute a product of a site's tokens once, however many measures ask for it.

        Args: of_basis, of_norm: whether it depends on U, or on the norm. Where it does not, it is
            the same for all bases or norms of the pass, and computed once for all of them.
        """
        place = site
        if site == HEADS and HEADS not in self._products.tokens:
            place = self._heads or "attn_in"
        key = (
            what,
            place,
            site == HEADS,
            self._basis if of_basis else None,
            self.norm is not None if of_norm else None,
        )
        made = self._products.made
        if key not in made:
            made[key] = compute()
        return made[key]

    def normed(self, site: str) -> Tensor:
        """The tokens that rates are taken on: after the attention norm, where one is set.

        It is applied to the residual stream, which it brings to the subspaces, and to nothing else.
        """
        norm, Z = self.norm, self.at(site)
        if norm is None or not is_residual(site):
            return Z
        return self.once("normed", site, lambda: _linalg.wide(norm(Z)), of_basis=False)

    def exactly_normed(self, site: str) -> Tensor:
        """The same in float64, norm included: for rates of which the difference counts.

        What float32 rounds apart in each of two would be all that shows of a small update.
        """
        norm, Z = self.exact_norm, self.at(site)
        if norm is None or not is_residual(site):
            return _linalg.upcast(Z)
        return self.once(
            "exactly normed", site, lambda: _linalg.upcast(norm(_linalg.upcast(Z))), of_basis=False
        )

    def magnitudes(self, site: str) -> Tensor:
        """|Z| of a site, (B, n, d), in float32 at least."""
        return self._raw("magnitudes", site, lambda: _linalg.wide(self.at(site)).abs())

    def norms(self, site: str) -> Tensor:
        """The l2 norm of each token, (B, n)."""
        return self._raw("norms", site, lambda: _linalg.token_norms(self.at(site)))

    def nonzero(self, site: str) -> Tensor:
        """How many entries of each sample are not exactly zero, (B,)."""
        return self._raw(
            "nonzero", site, lambda: _linalg.count_positive(self.magnitudes(site)).sum(dim=-1)
        )

    def gram(self, site: str) -> Tensor:
        """The smaller Gram matrix of the normed tokens, (B, m, m)."""
        return self.once("gram", site, lambda: _linalg.gram(self.normed(site)), of_basis=False)

    def heads(self, site: str) -> Tensor:
        """The normed tokens in each head's subspace, (B, K, n, p)."""
        return self.once("heads", site, lambda: project(self.normed(site), self.U))

    def head_gram(self, site: str) -> Tensor:
        """The smaller Gram matrix of the tokens in each head's subspace, (B, K, m, m)."""
        return self.once("head_gram", site, lambda: _linalg.gram(self.heads(site)))

    def unit(self, site: str) -> tuple[Tensor, Tensor]:
        """The tokens as they are, each of unit norm, and their Gram matrix.

        What is rounding beside the tokens that it comes from is zero.
        """
        per_head = site == HEADS
        Z = self.once(
            "unit",
            site,
            self._unit_in_heads if per_head else lambda: self._unit(self.at(site)),
            of_basis=per_head,
            of_norm=False,
        )
        G = self.once("unit_gram", site, lambda: _linalg.gram(Z), of_basis=per_head, of_norm=False)
        return Z, G

    def unit_heads(self, site: str) -> tuple[Tensor, Tensor]:
        """The normed tokens in each head's subspace, each of unit norm, and their Gram matrix."""
        X, U = self.normed(site), self.basis()
        V = self.once("unit heads", site, lambda: _linalg.unit_in_heads(self.heads(site), X, U))
        return V, self.once("unit heads gram", site, lambda: _linalg.gram(V))

    @staticmethod
    def _unit(Z: Tensor) -> Tensor:
        return _linalg.unit_tokens(Z, _linalg.token_floor(Z))

    def _unit_in_heads(self) -> Tensor:
        tokens = self._products.tokens
        projected = self._heads is None and HEADS not in tokens
        return _linalg.unit_in_heads(
            self.at(HEADS).contiguous(), tokens["attn_in"] if projected else None, self.U
        )

    def singular_values(self, site: str, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Singular values of the tokens as they are, (B, m), by the function given."""
        return self._raw("singular values", site, lambda: compute(self.at(site)))

    def orthonormal(self) -> Tensor:
        """An orthonormal basis of each subspace, (K, d, p), float64.

        Raises: ProbeError when there is no U.
        """
        U = self.basis()
        return self.once("orthonormal", "", lambda: _linalg.orthonormalise(U), of_norm=False)

    def basis(self) -> Tensor:
        """U, (K, d, p).

        Raises: ProbeError when there is none.
        """
        return _expected(self.U)

    def pooled(self, site: str, how: str) -> Tensor:
        """One float64 vector a sample: its mean token, or its class token.

        Shapes: (B, n, d) -> (B, d).
        Raises: ProbeError for another word, or when there is no class token.
        """
        Z = self.at(site)
        if how == "mean":
            return self._raw("mean", site, lambda: _linalg.upcast(Z).mean(dim=-2))
        if how == "class" and self.class_index is not None:
            return _linalg.upcast(self._class_tokens(Z))
        raise ProbeError(
            f"tokens cannot be pooled by '{how}'",
            "the model has no class token" if how == "class" else "it says how tokens are pooled",
            "Use 'mean'" if how == "class" else "Use one of: mean, class",
        )

    def _class_tokens(self, Z: Tensor) -> Tensor:
        """The class token of each sample; shapes: (B, n, d) -> (B, d)."""
        rows = self._products.class_rows
        if rows is None:
            return Z[..., self.class_index, :]
        if bool((rows < 0).any()):
            raise DataError(
                "the class token of some samples is left out by their masks",
                "tokens are pooled by it",
                "Keep it in the masks, or pool by 'mean'",
            )
        return Z.take_along_dim(rows.to(Z.device)[:, None, None], dim=1)[:, 0]

    def half_logdet(
        self,
        what: str,
        site: str,
        Z: Tensor,
        G: Tensor,
        scale: float,
        *,
        of_basis: bool = True,
        of_norm: bool = True,
    ) -> Tensor:
        """1/2 logdet(I + scale Z^T Z); of many eps the spectrum is taken once for all."""
        depends = {"of_basis": of_basis, "of_norm": of_norm}
        if self._products.precisions < SPECTRAL:
            return self.once(
                f"{what} {scale}", site, lambda: _linalg.half_logdet(Z, G, scale), **depends
            )
        spectrum = self.once(f"{what} spectrum", site, lambda: _linalg.spectrum(G), **depends)
        return self.once(
            f"{what} {scale}",
            site,
            lambda: _linalg.half_logdet_of_spectrum(Z, spectrum, scale),
            **depends,
        )

    def operator(self, name: str) -> Tensor | float:
        """A part of the layer's own steps.

        Raises: ProbeError when the family has none.
        """
        if name not in self._products.operators:
            raise ProbeError(
                f"the layer has no {name}",
                "its second step is not a proximal one",
                "Leave this measure out for models of this family",
            )
        return self._products.operators[name]

    def _raw(self, what: str, site: str, compute: Callable[[], Tensor]) -> Tensor:
        """A product of the tokens as they are: the same under every norm, and basis but `HEADS`."""
        return self.once(what, site, compute, of_basis=site == HEADS, of_norm=False)


def _expected(U: Tensor | None) -> Tensor:
    if U is None:
        raise ProbeError(
            "subspaces are missing", "this measure needs a basis U", "Pass U as (K, d, p)"
        )
    return U


def project(Z: Tensor, U: Tensor | None) -> Tensor:
    """Tokens in each subspace: Z U_k.

    Shapes: Z (B, n, d), U (K, d, p) -> (B, K, n, p).
    """
    U = _expected(U)
    K, d, p = U.shape
    side_by_side = U.to(Z).mT.reshape(K * p, d)  # one product for all heads
    # In one piece: products of strided heads take several times as long.
    return onednn.linear(Z, side_by_side).unflatten(-1, (K, p)).transpose(1, 2).contiguous()


def empty() -> Tensor:
    """No token."""
    return torch.empty(0)
