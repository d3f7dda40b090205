"""What the tests share: small models of each family, and reproducible tokens."""

import gc
import os
import signal
import sys
import threading
import time
from functools import lru_cache
from pathlib import Path

# Every worker of pytest-xdist, and every process that its tests start, has its share of the cores:
# threads that wait for a core which another worker holds made the suite five times as long. Set
# before torch is imported, which reads it once.
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if _WORKERS > 1:
    for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(_name, str(max(1, (os.cpu_count() or 1) // _WORKERS)))

# Figures make so much garbage that collecting it took a seventh of their tests.
gc.set_threshold(50_000, 20, 20)

# What a shell starts in the background ignores Ctrl-C, and so would all that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest  # noqa: E402
import torch  # noqa: E402
from matplotlib.mathtext import MathTextParser  # noqa: E402

# Matplotlib keeps fifty formulas that it has parsed; of hundreds of figures' most are the same.
MathTextParser._parse_cached = lru_cache(5000)(MathTextParser._parse_cached.__wrapped__)

sys.path.insert(0, str(Path(__file__).parent))  # `import oracle`


STEP = {"eta": 0.1, "lam": 0.1}  # what no file of a CRATE holds, stated so that nothing is assumed


def pytest_collection_modifyitems(items):
    """Files with slow tests come first, so that no process is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish():
    """What is imported by now stays: no collection looks at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def small_crate(**changes):
    from whitebox_probe.models.families.crate import CRATE

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
def alone():
    """No other thread is at work, which NumPy's and Python's random numbers are left to."""
    from whitebox_probe._core import threads

    end = time.monotonic() + 30
    while not threads.alone():
        assert time.monotonic() < end, f"another test's thread: {threading.enumerate()}"
        time.sleep(0.1)


@pytest.fixture
def crate():
    import whitebox_probe as wp

    return wp.wrap(small_crate(), name="crate")


@pytest.fixture
def vit():
    import whitebox_probe as wp

    return wp.wrap(small_vit(), name="vit")


def save_nanogpt(file, state, *, heads, model_args=True, prefix=""):
    """A checkpoint of a language model as nanoGPT's train.py writes it."""
    adam = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))])
    held = {
        "model": {prefix + key: tensor for key, tensor in state.items()},
        "optimizer": adam.state_dict(),
        "iter_num": 600000,
        "best_val_loss": torch.tensor(2.27),
        "config": {"dataset": "pile", "dropout": 0.0},
    }
    if model_args:
        layers = {key.split(".")[2] for key in state if key.startswith("transformer.h.")}
        positions, width = state["transformer.wpe.weight"].shape
        sizes = {"n_layer": len(layers), "n_head": heads, "n_embd": width, "block_size": positions}
        held["model_args"] = sizes | {"bias": False, "vocab_size": 23, "dropout": 0.0}
    torch.save(held, file)
    return file


def stopping_at(take, count, number=signal.SIGINT):
    """`Collector.take`, with a signal to this process at a call of that number."""
    calls = []

    def stopped(*args):
        calls.append(1)
        if len(calls) == count:
            signal.raise_signal(number)
        return take(*args)

    return stopped


def measured(kind, Z, U, *, labels=None):
    """Keyword arguments of `update` for any measure, made from tokens Z (B, n, d) and bases U."""
    from whitebox_probe.metrics.measure import DatasetMeasure, WeightMeasure

    if issubclass(kind, WeightMeasure):
        return {"U": U}
    n, d = Z.shape[1:]
    generator = torch.Generator().manual_seed(9)
    D = torch.randn(d, d, generator=generator, dtype=torch.float64).to(Z)
    update = Z.tanh()
    rest = {"attn_out": update, "z_half": Z + update, "mlp_in": Z / 2}
    rest |= {"z_in": Z + Z.flip(-1) / 2}
    needs = kind().inputs(kind.site["paper"])
    others = {site: rest[site] for site in needs if site in rest and site != kind.site["paper"]}
    operators = {"D": D, "lam": 0.1, "eta": 0.1}
    operators |= {
        "mean_update": torch.randn(n, d, generator=generator).to(Z) / 2,
        "mean_update_of": torch.zeros(0),
    }
    others |= {name: operators[name] for name in kind.needs_operators}
    if issubclass(kind, DatasetMeasure) and kind.needs_labels:
        others["labels"] = torch.arange(len(Z)) % 3 if labels is None else labels
    if "memberships" in needs:
        W = torch.einsum("bnd,kdp->bknp", Z.double(), U.double())
        return {"Z": W, "memberships": W.square().sum(dim=-1).softmax(dim=1)}
    if kind.site["paper"] == "attn_weights":
        side = int((n - 1) ** 0.5)
        Z = Z[:, : 1 + side**2]
        maps = (Z @ Z.mT).softmax(dim=-1)
        return {
            "Z": torch.stack([maps, maps.square() / maps.square().sum(-1, keepdim=True)], dim=1),
            "prefix": 1,
            "grid": (side, side),
        }
    codes = Z.abs() if "D" in kind.needs_operators else Z  # no entry of a code is below 0
    return {"Z": codes, "U": U, **others}
