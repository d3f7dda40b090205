"""CRATE-alpha classifiers and CLIPA image towers: the network, its sites, its files."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whitebox_probe.models.anatomy import Tap
from whitebox_probe.models.families._one_projection import (
    ONE_PROJECTION,
    OneProjectionAnatomy,
    Parts,
    square_grid,
)
from whitebox_probe.models.families._steps import (
    MSSA,
    PUBLISHED_STEP,
    PreNorm,
    patches_a_side,
    resampled,
)
from whitebox_probe.models.family import NetworkFamily, Recognised
from whitebox_probe.models.keys.crate_alpha import FINGERPRINTS, sizes, to_torch_names
from whitebox_probe.models.keys.positions import rule
from whitebox_probe.models.offloaded import fetched

NORM_EPS = 1e-6  # of every layer norm in a block; the torch head alone has torch's own 1e-5


class ODL(nn.Module):
    """Overcomplete dictionary learning: a sparse code in two proximal steps, then its decoding.

    A1 = ReLU(eta Y D - eta lam);  A2 = ReLU(A1 - eta (A1 D^T - Y) D - eta lam);  out = A2 D1^T

    Shapes: Y (B, n, d) -> (B, n, d); the code A2, which passes through `code`, is (B, n, 4d).
    References: Yang et al. 2024, Scaling White-Box Transformers for Vision, NeurIPS
        (arXiv:2405.20299).
    """

    def __init__(self, dim: int, eta: float, lam: float) -> None:
        super().__init__()
        self.D = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(dim, 4 * dim)))
        self.D1 = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(dim, 4 * dim)))
        self.eta = eta
        self.lam = lam
        self.code = nn.Identity()  # the code is recorded here

    def forward(self, y: Tensor) -> Tensor:
        shift = self.eta * self.lam
        a = F.relu(self.eta * (y @ self.D) - shift)
        residual = F.linear(a, self.D) - y  # A1 D^T - Y
        a = F.relu(a - self.eta * (residual @ self.D) - shift)
        return F.linear(self.code(a), self.D1)

    def operators(self) -> dict[str, Tensor | float]:
        """The dictionary that the code is sought in, (d, 4d); not the one that decodes it."""
        return {"D": fetched(self, "D").detach(), "lam": self.lam, "eta": self.eta}


class Layer(nn.Sequential):
    """X + MSSA(LN(X)), then X + ODL(LN(X)): both steps have a skip connection."""

    def forward(self, x: Tensor) -> Tensor:
        attention, odl = self
        x = x + attention(x)
        return x + odl(x)


class CrateAlpha(nn.Module):
    """Scaled white-box transformer: classifier, or image tower of a CLIPA model.

    Shapes: images (B, C, H, W) -> (B, classes); for a tower, the embedding.
    Args:
        eta, lam: step size and sparsity weight of both proximal steps; no file holds them.
        head_eps: of the last layer norm: 1e-5 in the torch release, 1e-6 in JAX and CLIPA.
        biases: of the patch embedding and of the head; a CLIPA tower has neither.
        interpolate_positions: as in `CRATE`.
    References: Yang et al. 2024, arXiv:2405.20299.
    """

    def __init__(
        self,
        *,
        image_size: int = 224,
        patch_size: int = 16,
        channels: int = 3,
        classes: int = 1000,
        dim: int,
        depth: int,
        heads: int,
        dim_head: int,
        eta: float = 0.1,
        lam: float = 0.1,
        head_eps: float = 1e-5,
        biases: bool = True,
        interpolate_positions: bool | str = False,
    ) -> None:
        super().__init__()
        rule(interpolate_positions)  # a name that is not known is told before any work
        self.interpolate_positions = interpolate_positions
        self.conv1 = nn.Conv2d(channels, dim, patch_size, stride=patch_size, bias=biases)
        count = patches_a_side(image_size, patch_size) ** 2
        self.pos_embedding = nn.Parameter(torch.randn(1, count + 1, dim))
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        layers = [
            Layer(
                PreNorm(dim, MSSA(dim, heads, dim_head, bias=False), norm_eps=NORM_EPS),
                PreNorm(dim, ODL(dim, eta, lam), norm_eps=NORM_EPS),
            )
            for _ in range(depth)
        ]
        self.transformer = nn.Module()  # only for the release's names
        self.transformer.layers = nn.Sequential(*layers)
        self.mlp_head = nn.Sequential(
            nn.LayerNorm(dim, eps=head_eps), nn.Linear(dim, classes, bias=biases)
        )

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv1(images).flatten(2).mT  # (B, N, d)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embedding
        return self.mlp_head(self.transformer.layers(x)[:, 0])  # type: ignore[operator]


class CrateAlphaAnatomy(OneProjectionAnatomy):
    """MSSA, then a decoupled dictionary, both with a skip connection."""

    absent = {
        "mlp_hidden": "the activation inside its second step is a sparse code, recorded as 'code'"
    } | ONE_PROJECTION

    def count(self, module: Any) -> int:
        """The pairs of steps."""
        return len(module.transformer.layers)

    def tokens(self, module: Any) -> int:
        """The class token and the patches."""
        return module.pos_embedding.shape[1]

    def parts(self, module: Any, number: int) -> Parts:
        """Each step stands behind its own norm."""
        path = f"transformer.layers.{number - 1}"
        taps = {
            "z_in": Tap(path, "input"),
            "attn_in": Tap(f"{path}.0.fn", "input"),
            "attn_out": Tap(f"{path}.0", "output"),
            "z_half": Tap(f"{path}.1", "input"),
            "mlp_in": Tap(f"{path}.1.fn", "input"),
            "code": Tap(f"{path}.1.fn.code", "output"),
            "z_out": Tap(path, "output"),
        }
        return Parts(f"{path}.0.fn", f"{path}.0.norm", taps, step=f"{path}.1.fn")

    def prefix_tokens(self, module: nn.Module) -> int:
        """The class token."""
        return 1

    def grid(self, module: Any, inputs: Tensor) -> tuple[int, int] | None:
        """A square: the network is built for images of one side."""
        return square_grid(self.tokens(module), self.prefix_tokens(module))


class CrateAlphaFamily(NetworkFamily):
    """CRATE-alpha of Yang et al. 2024 (arXiv:2405.20299): MSSA, then a decoupled dictionary.

    Both steps have a skip connection, so z_out is dense: the sparse object is `code`, the (n, 4d)
    code inside the second step, and `sites={"l0": "code"}` measures it. Torch files, JAX archives
    and CLIPA files are read; of a CLIPA file, the image tower.

    The second step is two proximal steps with a d x 4d dictionary, and another one decodes: the
    `operators` are of the first, and know nothing of the second.
    """

    name = "crate_alpha"
    network = CrateAlpha
    reads = CrateAlphaAnatomy
    example = (
        {
            "image_size": 12,
            "patch_size": 4,
            "classes": 2,
            "dim": 16,
            "depth": 2,
            "heads": 2,
            "dim_head": 6,
        },
    )
    tested = (
        "outputs and `code` against the published equations in three formats (torch, JAX "
        "archive with its optimizer, CLIPA tower); keys, shapes and parameter counts of the "
        "published sizes. The JAX names are inferred from the code, and the format of the four "
        "`in21k` files without an extension is not known"
    )
    positions = ("pos_embedding",)
    fingerprints = FINGERPRINTS

    def assumed(self, arch: Mapping[str, Any]) -> dict[str, Any]:
        """The published steps; the last norm's eps is that of the torch release.

        JAX archives and CLIPA files are recognised with their own.
        """
        return PUBLISHED_STEP | {"head_eps": 1e-5}

    def recognise(self, shapes: Mapping[str, tuple[int, ...]]) -> Recognised | None:
        """Two dictionaries a layer, in any of the three formats; JAX alone tells the heads."""
        if not self.marked(shapes):
            return None
        found = sizes(shapes)
        inner = found.pop("inner")
        if "heads" in found:
            return Recognised(found | self.head_arguments(found["heads"], inner))
        return Recognised(found, inner=inner)

    def convert(
        self, weights: dict[str, Tensor], module: nn.Module, *, source: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Bring JAX and CLIPA names to torch ones; resample positions only where asked for."""
        return resampled(to_torch_names(weights), module, self.positions)
