"""CRATE masked autoencoders: the network of the official release, its sites, its files."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from whitebox_probe._core.errors import DataError
from whitebox_probe.models.anatomy import Tap
from whitebox_probe.models.families._one_projection import (
    ONE_PROJECTION,
    OneProjectionAnatomy,
    Parts,
    square_grid,
)
from whitebox_probe.models.families._steps import (
    ISTA,
    MSSA,
    PUBLISHED_STEP,
    PatchEmbed,
    PreNorm,
    patches_a_side,
    resampled,
)
from whitebox_probe.models.family import NetworkFamily, Recognised
from whitebox_probe.models.keys.counts import grid_side, numbered
from whitebox_probe.models.keys.positions import rule


class EncoderBlock(nn.Module):
    """X + MSSA(LN(X)), then ISTA without a skip connection: the block of the classifier."""

    def __init__(self, dim: int, heads: int, dim_head: int, eta: float, lam: float) -> None:
        super().__init__()
        attention = PreNorm(dim, MSSA(dim, heads, dim_head))
        pair = nn.ModuleList([attention, PreNorm(dim, ISTA(dim, eta, lam))])
        self.layers = nn.ModuleList([pair])  # one pair: the release's names have this index

    def forward(self, x: Tensor) -> Tensor:
        layer: Any = self.layers[0]
        attention, ista = layer
        return ista(x + attention(x))


class DecoderBlock(nn.Module):
    """The encoder's block run backwards: H = LN(X) W^T, then H - MSSA(LN(H)); no ReLU."""

    def __init__(self, dim: int, heads: int, dim_head: int) -> None:
        super().__init__()
        linear = nn.Linear(dim, dim, bias=False)
        attention = PreNorm(dim, MSSA(dim, heads, dim_head))
        self.layers = nn.ModuleList([nn.ModuleList([PreNorm(dim, linear), attention])])

    def forward(self, x: Tensor) -> Tensor:
        layer: Any = self.layers[0]
        linear, attention = layer
        H = linear(x)
        return H - attention(H)


class CrateMAE(nn.Module):
    """White-box masked autoencoder.

    Mask tokens stand in for hidden patches before the encoder, which therefore sees all tokens, and
    encoder and decoder share `decoder_pos_embed`. `pos_embed` and `decoder_embed` are in the files
    and take no part, as in the release.

    Shapes: images (B, C, H, W) -> predicted patches (B, N, s*s*C), channel fastest.
    Args:
        lam: sparsity weight of the encoder. No file holds it, and every feature depends on it.
        eta: step size of the encoder's ISTA steps; the decoder has none.
        mask_ratio: share of the patches that are hidden, from 0 up to 1 (excluded). With 0 the
            whole image is seen, which is how the release analyses the model. Which patches are
            hidden is drawn for each image from its own pixels and `mask_seed`: an image has the
            same mask in every batch, on every device, and in every model.
        interpolate_positions: as in `CRATE`.
    Raises: DataError for a ratio out of range.
    References: Pai et al. 2024, Masked Completion via Structured Diffusion with White-Box
        Transformers, ICLR (arXiv:2404.02446).
    """

    def __init__(
        self,
        *,
        image_size: int = 224,
        patch_size: int = 16,
        channels: int = 3,
        dim: int,
        depth: int,
        decoder_depth: int,
        heads: int,
        dim_head: int,
        lam: float,
        eta: float = 0.1,
        mask_ratio: float = 0.0,
        mask_seed: int = 0,
        interpolate_positions: bool | str = False,
    ) -> None:
        super().__init__()
        self.mask_ratio = _checked(mask_ratio)
        self.mask_seed = mask_seed
        side = patches_a_side(image_size, patch_size)
        self.patch_size = patch_size
        self.channels = channels
        rule(interpolate_positions)  # a name that is not known is told before any work
        self.interpolate_positions = interpolate_positions
        self.patch_embed = PatchEmbed(channels, dim, patch_size)
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.mask_token = nn.Parameter(torch.empty(1, 1, dim))
        self.pos_embed = nn.Parameter(sine_positions(side, dim), requires_grad=False)
        self.decoder_pos_embed = nn.Parameter(sine_positions(side, dim), requires_grad=False)
        self.blocks = nn.ModuleList(
            EncoderBlock(dim, heads, dim_head, eta, lam) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.decoder_embed = nn.Linear(dim, dim)
        self.decoder_blocks = nn.ModuleList(
            DecoderBlock(dim, heads, dim_head) for _ in range(decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(dim, eps=1e-6)
        self.decoder_pred = nn.Linear(dim, channels * patch_size**2)
        self._initialise()

    def _initialise(self) -> None:
        """As the release does, so that random weights are its starting point."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        block: Any
        for block in self.decoder_blocks:
            nn.init.kaiming_uniform_(block.layers[0][0].fn.weight)
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.data.flatten(1))
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(
        self,
        images: Tensor,
        mask_ratio: float | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Predicted patches; hides what the network's own `mask_ratio` says when none is given."""
        ratio = self.mask_ratio if mask_ratio is None else mask_ratio
        return self._predict(images, self.draw_mask(images, ratio, generator))

    def reconstruct(
        self,
        images: Tensor,
        mask_ratio: float | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Hide patches and predict the whole image; for a figure.

        Shapes: images (B, C, H, W) -> prediction (B, C, H, W) and mask (B, 1, H, W), True where
            the input was hidden. The loss was taken there only: for the usual figure,
            `torch.where(mask, prediction, images)`.
        Args:
            mask_ratio: share of the patches that are hidden; the network's own when not given, or
                0.75 if that is 0.
            generator: draws the masks, on the CPU; each image's own when not given.
        Raises: DataError for a ratio out of range.

        The prediction is in the units of the normalised input; a model trained on patches scaled
        to unit variance (`norm_pix_loss`, which no file tells) predicts those.
        """
        ratio = (self.mask_ratio or 0.75) if mask_ratio is None else mask_ratio
        hidden = self.draw_mask(images, ratio, generator)
        if hidden is None:
            hidden = torch.zeros(len(images), self._patches, dtype=torch.bool)
        prediction = self._unpatch(self._predict(images, hidden))
        each = hidden.to(images.device)[..., None].expand(-1, -1, self.patch_size**2)
        return prediction, self._unpatch(each)

    def draw_mask(
        self, images: Tensor, mask_ratio: float, generator: torch.Generator | None = None
    ) -> Tensor | None:
        """Which patches of each image are hidden, (B, N) on the CPU; None when all are seen."""
        if _checked(mask_ratio) == 0:
            return None
        kept = int(self._patches * (1 - mask_ratio))
        if generator is None:
            noise = torch.stack([self._noise(image) for image in images.detach().cpu()])
        else:
            noise = torch.rand(len(images), self._patches, generator=generator, dtype=torch.float32)
        return noise.argsort(dim=1).argsort(dim=1) >= kept

    def _noise(self, image: Tensor) -> Tensor:
        """One number a patch, drawn from the image itself: neither batch nor order shows."""
        found = hashlib.blake2b(str(self.mask_seed).encode(), digest_size=8)
        found.update(image.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        seed = int.from_bytes(found.digest(), "big") % 2**63
        random = torch.Generator().manual_seed(seed)
        return torch.rand(self._patches, generator=random, dtype=torch.float32)

    @property
    def _patches(self) -> int:
        return self.decoder_pos_embed.shape[1] - 1

    def _predict(self, images: Tensor, hidden: Tensor | None) -> Tensor:
        x = self.patch_embed(images)
        if hidden is not None:
            x = torch.where(hidden.to(x.device)[..., None], self.mask_token.to(x.dtype), x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.decoder_pos_embed
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_pred(self.decoder_norm(x))[:, 1:]

    def _unpatch(self, patches: Tensor) -> Tensor:
        """Patches side by side: (B, N, s*s*C) -> (B, C, H, W)."""
        s, side = self.patch_size, int(self._patches**0.5)
        x = patches.view(len(patches), side, side, s, s, -1)
        return x.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), -1, side * s, side * s)


def _checked(mask_ratio: float) -> float:
    """The share of patches that are hidden, if some are seen."""
    if not 0 <= mask_ratio < 1:
        raise DataError(
            f"mask_ratio is {mask_ratio}",
            "it is the share of patches that are hidden, and some must be seen",
            "Use a value from 0 up to 1 (excluded), such as 0.75",
        )
    return mask_ratio


def sine_positions(side: int, dim: int) -> Tensor:
    """Fixed position embeddings of a square grid, row by row, behind a zero for the class token.

    The first half of the width tells the column, the second the row; each is sines, then cosines,
    of frequencies from 1 down to 1/10000.

    Shapes: -> (1, 1 + side*side, dim), float32.
    References: He et al. 2022, arXiv:2111.06377 (released code).
    """
    if dim % 4:
        raise ValueError(f"a width of {dim} is no multiple of 4, as position embeddings need")
    frequencies = 10000.0 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    angles = torch.arange(side, dtype=torch.float64)[:, None] * frequencies  # (side, dim/4)
    each = torch.cat([angles.sin(), angles.cos()], dim=1)  # (side, dim/2)
    columns = each.expand(side, side, -1)
    rows = each[:, None].expand(side, side, -1)
    grid = torch.cat([columns, rows], dim=-1).flatten(0, 1)  # (side*side, dim)
    return torch.cat([grid.new_zeros(1, dim), grid])[None].float()


class CrateMAEAnatomy(OneProjectionAnatomy):
    """An encoder's layers, then a decoder's.

    Layers 1 to L are the encoder's and hold what a CRATE's do. The layers after them are the
    decoder's, which run the other way round, H = LN(Z) W^T and then Z^+ = H - MSSA(LN(H)):

    - `z_in`, `z_out`: the tokens that enter and leave the layer, as everywhere;
    - `mlp_in`: LN(Z), in front of the linear step, which comes first here;
    - `z_half`: H, between the two steps, hence before attention;
    - `attn_in`: LN(H); `heads`: its projections;
    - `attn_out`: -MSSA(LN(H)), with its sign, so that z_half + attn_out is z_out.

    Between the last layer of the encoder and the first of the decoder stands a layer norm: the
    z_out of the one is not the z_in of the other.
    """

    absent = {
        "mlp_hidden": "neither an ISTA step nor the decoder's linear step has a hidden activation"
    } | ONE_PROJECTION

    def count(self, module: Any) -> int:
        """Layers of both kinds."""
        return len(module.blocks) + len(module.decoder_blocks)

    def tokens(self, module: Any) -> int:
        """The class token and the patches, hidden ones too."""
        return module.decoder_pos_embed.shape[1]

    def parts(self, module: Any, number: int) -> Parts:
        """What each site is in the decoder is said above."""
        depth = len(module.blocks)
        decodes = number > depth
        path = f"decoder_blocks.{number - 1 - depth}" if decodes else f"blocks.{number - 1}"
        first, second = f"{path}.layers.0.0", f"{path}.layers.0.1"
        attends, other = (second, first) if decodes else (first, second)
        taps = {
            "z_in": Tap(first, "input"),
            "attn_in": Tap(f"{attends}.fn", "input"),
            "attn_out": Tap(attends, "output", Tensor.neg if decodes else None),
            "z_half": Tap(second, "input"),
            "mlp_in": Tap(f"{other}.fn", "input"),
            "z_out": Tap(path, "output"),
        }
        return Parts(
            f"{attends}.fn",
            f"{attends}.norm",
            taps,
            step="" if decodes else f"{second}.fn",
            exempt=_decoding(first=number == depth + 1) if decodes else {},
        )

    def prefix_tokens(self, module: nn.Module) -> int:
        """The class token."""
        return 1

    def grid(self, module: Any, inputs: Tensor) -> tuple[int, int] | None:
        """A square: the network is built for images of one side."""
        return square_grid(self.tokens(module), self.prefix_tokens(module))


def _decoding(*, first: bool) -> dict[str, str]:
    """What does not hold in a layer of the decoder, and why."""
    turned = {
        "attention_adds": "its attention comes second: z_half + attn_out is z_out",
        "norm_before_attention": "its attention comes second: the norm acts on z_half",
    }
    between = "a layer norm stands between the encoder and the decoder"
    return turned | ({"layers_follow": between} if first else {})


class CrateMAEFamily(NetworkFamily):
    """CRATE-MAE of Pai et al. 2024 (arXiv:2404.02446)."""

    name = "crate_mae"
    network = CrateMAE
    reads = CrateMAEAnatomy
    example = (
        {
            "image_size": 12,
            "patch_size": 4,
            "dim": 16,
            "depth": 2,
            "decoder_depth": 2,
            "heads": 2,
            "dim_head": 6,
            "lam": 0.5,
        },
    )
    tested = (
        "outputs and every site of encoder and decoder against the published equations; fixed "
        "position tables; parameter counts; the official file's layout. Which λ a file was "
        "trained with is not in it"
    )
    positions = ("pos_embed", "decoder_pos_embed")
    fingerprints = (
        {
            "blocks.0.layers.0.0.fn.qkv.weight": 2,
            "decoder_blocks.0.layers.0.1.fn.qkv.weight": 2,
            "patch_embed.proj.weight": 4,
            "decoder_pos_embed": 3,
        },
    )

    def assumed(self, arch: Mapping[str, Any]) -> dict[str, Any]:
        """The step size; the sparsity weight differs between files, and is asked for."""
        return {"eta": PUBLISHED_STEP["eta"]}

    def recognise(self, shapes: Mapping[str, tuple[int, ...]]) -> Recognised | None:
        """Blocks of an encoder and of a decoder that attends second."""
        if not self.marked(shapes):
            return None
        qkv, _, patch, positions = (shapes[key] for key in self.fingerprints[0])
        arch = {
            "image_size": grid_side(positions[1]) * patch[2],
            "patch_size": patch[2],
            "channels": patch[1],
            "dim": qkv[1],
            "depth": numbered(shapes, "blocks."),
            "decoder_depth": numbered(shapes, "decoder_blocks."),
        }
        return Recognised(arch, inner=qkv[0], ask={"lam": (0.5, 5.0)})

    def convert(
        self, weights: dict[str, Tensor], module: nn.Module, *, source: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Resample the position embeddings, only where the architecture asks for it."""
        return resampled(weights, module, self.positions)
