"""What can be seen of a process and of a module, and a data set and a module that disturb both."""

import decimal
import gc
import logging
import multiprocessing
import os
import random
import signal
import sys
import threading
import warnings

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from PIL import ImageFile
from torch import nn
from torch.nn.utils import parametrizations

from tests.conftest import small_vit

FLAGS = ("flash_sdp_enabled", "mem_efficient_sdp_enabled", "math_sdp_enabled", "cudnn_sdp_enabled")


def process():
    """Every setting of the process that a call may disturb, by name."""
    found = {
        "torch's random state": torch.get_rng_state().numpy().tobytes(),
        "NumPy's random state": repr(np.random.get_state()),  # noqa: NPY002
        "Python's random state": random.getstate(),
        "threads": torch.get_num_threads(),
        "default type": torch.get_default_dtype(),
        "determinism": torch.are_deterministic_algorithms_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "cuDNN": (torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark),
        "oneDNN": torch.backends.mkldnn.enabled,
        "fast path": torch.backends.mha.get_fastpath_enabled(),
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "NumPy's errors": np.geterr(),
        "filters": list(warnings.filters),
        "showwarning": warnings.showwarning,
        "environment": dict(os.environ),
        "directory": os.getcwd(),
        "path": list(sys.path),
        "hooks of Python": (sys.excepthook, sys.displayhook, sys.getprofile()),
        "signals": [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)],
        "signal of children": signal.getsignal(signal.SIGCHLD),
        "start of processes": multiprocessing.get_start_method(allow_none=True),
        "threads of Python": sorted(thread.name for thread in threading.enumerate()),
        "root logger": (logging.root.level, list(logging.root.handlers)),
        "loggers": {n: logging.getLogger(n).level for n in ("torch", "matplotlib", "PIL")},
        "rcParams": {key: mpl.rcParams[key] for key in mpl.rcParams},
        "figures": plt.get_fignums(),
        "global hooks": len(nn.modules.module._global_forward_hooks),
        "global hooks in front": len(nn.modules.module._global_forward_pre_hooks),
        "pandas": {n: pd.get_option(n) for n in ("display.max_rows", "display.precision")},
        "print": (str(np.get_printoptions()), str(vars(torch._tensor_str.PRINT_OPTS))),
        "called at errors": np.geterrcall(),
        "captured warnings": logging._warnings_showwarning,
        "garbage": (gc.isenabled(), gc.get_threshold()),
        "depth": sys.getrecursionlimit(),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "arguments": list(sys.argv),
        "decimal": repr(decimal.getcontext()),
        "Pillow": (ImageFile.LOAD_TRUNCATED_IMAGES, ImageFile.Image.MAX_IMAGE_PIXELS),
        "modes": torch._C._len_torch_function_stack(),
        "default device": torch.get_default_device(),
        "threads of autograd": torch._C._is_multithreading_enabled(),
        "always warned": torch.is_warn_always_enabled(),
        "filled memory": torch.utils.deterministic.fill_uninitialized_memory,
    }
    return found | {name: getattr(torch.backends.cuda, name)() for name in FLAGS}


def module(net):
    """Everything that can be seen of a module, by name."""
    parts = list(net.modules())
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    inner = [each for each in parts if isinstance(each, Cache)]
    return {
        "modes": [part.training for part in parts],
        "values": {n: t.detach().clone().numpy().tobytes() for n, t in tensors.items()},
        "tensors": {n: id(t) for n, t in tensors.items()},
        "required": {n: t.requires_grad for n, t in tensors.items()},
        "gradients": {n: id(t.grad) for n, t in net.named_parameters()},
        "hooks": [len(p._forward_hooks) + len(p._forward_pre_hooks) for p in parts],
        "parametrised": [type(part).__name__ for part in parts],
        "held": [sorted(vars(part)) for part in parts],
        "tables": [(each.table is None, each.plain.table is None, len(each.of)) for each in inner],
        "own generator": net.own.get_state().numpy().tobytes(),
    }


class Plain:
    """No module, but it holds a tensor."""

    table = None


class Cache(nn.Module):
    """Keeps tables of its first pass: as an attribute, in a mapping and in a plain object."""

    def __init__(self):
        super().__init__()
        self.table, self.of, self.plain = None, {}, Plain()

    def forward(self, Z):
        if self.table is None:
            self.table = torch.ones(Z.shape[-1])
        if self.plain.table is None:
            self.plain.table = torch.ones(Z.shape[-1])
        scale = self.of.setdefault(Z.shape[-1], torch.ones(Z.shape[-1]))
        return Z * self.table * self.plain.table * scale


def network():
    """A vision transformer in training, with parts that were frozen, and all kinds of state."""
    net = small_vit(pos_drop_rate=0.3, proj_drop_rate=0.2)
    net.norm_pre = nn.Sequential(Cache(), nn.Dropout(0.1))
    net.fc_norm = nn.BatchNorm1d(16)
    net.own = torch.Generator().manual_seed(3)
    parametrizations.weight_norm(net.head)
    net.train()
    net.blocks[1].eval()
    net.blocks[2].mlp.fc1.requires_grad_(False)
    net.blocks[0].norm1.weight.grad = torch.ones(16)
    return net


class Vandal(torch.utils.data.Dataset):
    """Samples whose code disturbs whatever it can reach; one of them may raise."""

    def __init__(self, error=None, at=5):
        self.images = torch.randn(12, 3, 12, 12, generator=torch.Generator().manual_seed(1))
        self.error, self.at = error, at

    def __len__(self):
        return len(self.images)

    def __getitem__(self, number):
        torch.manual_seed(number), np.random.seed(number), random.seed(number)  # noqa: NPY002
        torch.set_num_threads(torch.get_num_threads() + 1)
        torch.backends.mkldnn.enabled = True
        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
        np.seterr(over="ignore")
        logging.getLogger("PIL").setLevel(5), logging.root.setLevel(7)
        os.environ["DISTURBED"] = str(number)
        os.chdir("/")
        sys.path.append("disturbed")
        mpl.rcParams["lines.linewidth"] = 9.0
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if number == self.at and self.error is not None:
            raise self.error
        return self.images[number], number % 3


def differing(before, after):
    """The names of what is other than before."""
    return [name for name in before if before[name] != after[name]]
