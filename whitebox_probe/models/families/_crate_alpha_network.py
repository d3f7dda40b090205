"""CRATE-alpha, with the parameter names of the official torch release."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whitebox_probe.models.families._steps import MSSA, PreNorm, patches_a_side

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
        interpolate_positions: bool = False,
    ) -> None:
        super().__init__()
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
