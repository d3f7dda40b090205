"""What the tests share: small models of each family, and reproducible tokens."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # `import oracle`


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def small_crate(**changes):
    from whitebox_probe.models._crate_network import CRATE

    arch = {
        "image_size": 12,
        "patch_size": 4,
        "channels": 3,
        "classes": 5,
        "dim": 16,
        "depth": 3,
        "heads": 2,
        "dim_head": 6,
    }
    return CRATE(**(arch | changes)).eval()


def small_vit(**changes):
    from timm.models.vision_transformer import VisionTransformer

    arch = {
        "img_size": 12,
        "patch_size": 4,
        "in_chans": 3,
        "num_classes": 5,
        "embed_dim": 16,
        "depth": 3,
        "num_heads": 2,
        "mlp_ratio": 2,
    }
    return VisionTransformer(**(arch | changes)).eval()


@pytest.fixture
def crate():
    import whitebox_probe as wp

    return wp.wrap(small_crate(), name="crate")


@pytest.fixture
def vit():
    import whitebox_probe as wp

    return wp.wrap(small_vit(), name="vit")
