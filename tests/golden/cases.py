"""What the golden set measures: the shipped models, and one small network of every family.

Modules, tokens and sums are in float64, and weights of the small networks are drawn by NumPy, so
that the numbers hold on any processor. `python tests/golden/make.py` measures them anew; a number
that moves is listed in CHANGELOG, under Numbers, with its reason.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import whitebox_probe as wp

HERE = Path(__file__).parent
INPUTS, NUMBERS = HERE / "inputs.npz", HERE / "numbers.npz"
EXACT, DRAWN = 1e-9, 1e-6  # what is drawn by torch in float32 may differ in its last digit
SHIPPED = ("crate-tiny-fmnist", "vit-tiny-fmnist", "crate-tiny-kjv", "gpt2-tiny-kjv")
SWEEP = [0.05, 0.1, 0.5]
RATES = ["compression", "coding_rate", "rate_reduction", "sparse_rate_reduction", "pooled_rate"]
OF_U = [*RATES, "token_coherence", "token_snr", "coherence", "descent_cosine", "descent_achieved_u"]
OF_U += ["attention_rate_change"]
PICTURE = {"image_size": 12, "patch_size": 4, "channels": 3, "classes": 5}
SIZES = {"dim": 16, "depth": 2, "heads": 2}
HEADS = SIZES | {"dim_head": 8}
TIMM = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
HF = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 23}
HF |= {"max_position_embeddings": 20, "bos_token_id": 0, "eos_token_id": 0}
BERT = {"model_type": "bert", "intermediate_size": 32, "hidden_act": "gelu", "pad_token_id": 0}
LLAMA = {"model_type": "llama", "intermediate_size": 32, "num_key_value_heads": 2}
DECODER = {"image_size": 12, "patch_size": 4, "channels": 3, "decoder_depth": 2, "lam": 0.5}
# name -> family, arguments of the network, side of its images (None: it reads token ids)
NETWORKS: Mapping[str, tuple[str, Mapping[str, Any], int | None]] = {
    "crate": ("crate", PICTURE | HEADS, 12),
    "crate_mae": ("crate_mae", DECODER | HEADS, 12),
    "crate_alpha": ("crate_alpha", PICTURE | HEADS, 12),
    "tost": ("tost", SIZES | {"patch_size": 4, "classes": 5}, 12),
    "aot": ("aot", PICTURE | HEADS, 12),
    "aot-text": ("aot", HEADS | {"vocabulary": 23, "block_size": 12}, None),
    "timm_vit": ("timm_vit", TIMM, 16),
    "timm_eva": ("timm_eva", TIMM, 16),
    "crate_gpt2": ("crate_gpt", SIZES | {"vocabulary": 23, "block_size": 12, "atoms": None}, None),
    "crate_lm": ("crate_gpt", SIZES | {"vocabulary": 23, "block_size": 12, "atoms": 64}, None),
    "tost_gpt": ("tost_gpt", SIZES | {"vocabulary": 23, "block_size": 12}, None),
    "crate_bert": ("crate_bert", SIZES | {"vocabulary": 23, "positions": 14}, None),
    "hf-gpt2": ("hf", HF | {"model_type": "gpt2"}, None),
    "hf-bert": ("hf", HF | BERT, None),
    "hf-llama": ("hf", HF | LLAMA, None),
}


@dataclass(frozen=True)
class Case:
    """One call: what it gives is compared number by number."""

    name: str
    model: str
    metrics: tuple[str, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    masked: bool = False
    tolerance: float = EXACT
    first: int = 1  # layer; where a basis is fitted to layer 1, noise settles some directions


def cases() -> Iterator[Case]:
    """Every case; metrics of None stand for all that the model has."""
    for model in SHIPPED:
        vit = model.startswith(("vit", "gpt2"))
        text = model.endswith("kjv")
        yield Case(f"{model}/paper", model)
        yield Case(f"{model}/official", model, options={"convention": "official"})
        changes: dict[str, dict[str, Any]] = {
            "orthonormal": {"orthonormal": True},
            "bare": {"prenorm": False},
            "bare orthonormal": {"prenorm": False, "orthonormal": True},
            "sweep": {"eps": SWEEP},
            "pca": {"basis": "pca", "fit": True},
            "clusters": {"basis": "pca:clusters", "fit": True},
            "random": {"basis": "random"},
        }
        if not text:
            changes["patches"] = {"class_token": False}
        if vit:
            changes["queries"] = {"basis": "qkv:q"}
            changes["values orthonormal"] = {"basis": "qkv:v", "orthonormal": True}
            changes["qk"] = {"basis": "qk"}
        official = ["compression", "coding_rate", "rate_reduction"]
        for name, options in changes.items():
            tolerance = DRAWN if name in ("clusters", "random") else EXACT
            fitted = "fit" in options
            # An eps sweep wrote one row of the pooled rates over the other. The angles between
            # fitted subspaces are rounding about 0 or a right angle.
            left_out = {"sweep": "pooled_rate"}.get(name, "coherence" if fitted else "")
            wanted = [m for m in OF_U if m != left_out]
            more = [] if text else ["attention_entropy", "attention_distance"]
            if name == "patches":
                wanted = [*wanted, *more, "l0", "hoyer", "mean_cosine", "neural_collapse"]
            common = {"tolerance": tolerance, "first": 2 if fitted else 1}
            yield Case(f"{model}/{name}", model, tuple(wanted), options, **common)
            if "prenorm" not in options:
                options = options | {"convention": "official"}
                yield Case(f"{model}/official {name}", model, tuple(official), options, **common)
        for null in ("gaussian", "shuffled", "random_subspaces"):
            wanted = [*RATES, "descent_cosine", "hoyer", "effective_rank"]
            yield Case(f"{model}/{null}", model, tuple(wanted), {"null": null}, tolerance=DRAWN)
        wanted = [*RATES, "hoyer", "l0", "attention_entropy", "mean_cosine"]
        yield Case(f"{model}/masked", model, tuple(wanted), masked=True)
    for name in NETWORKS:
        yield Case(f"{name}/paper", name)
        yield Case(f"{name}/official", name, options={"convention": "official"})


def of(model: str) -> wp.ProbeModel:
    """The model of a case, in float64."""
    if model in SHIPPED:
        made = wp.load(model)
        made.module.double()
        return made
    from golden.building import build

    family, arch, _ = NETWORKS[model]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module: nn.Module = build(family, arch).double().eval()
    random = np.random.default_rng(0)
    with torch.no_grad():
        for parameter in module.parameters():
            drawn = random.uniform(-0.4, 0.4, tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(np.asarray(drawn)))
    return wp.wrap(module, family, name=model)


def samples(case: Case, *, fit: bool = False) -> list[tuple[torch.Tensor, Any]]:
    """Inputs in float64 (or token ids) with their classes, or with masks."""
    with np.load(INPUTS) as kept:
        pictures, classes, windows = kept["pictures"], kept["classes"], kept["windows"]
    side = NETWORKS[case.model][2] if case.model in NETWORKS else 28
    random = np.random.default_rng(1)
    if case.model in NETWORKS:
        of_text = side is None
        drawn = (
            random.integers(23, size=(8, 12)) if of_text else random.normal(size=(8, 3, side, side))
        )
        inputs = torch.from_numpy(np.asarray(drawn))
        classes = np.arange(8) % 2
    elif case.model.endswith("kjv"):
        inputs = torch.from_numpy(windows.astype(np.int64))
    else:
        stated = wp.load(case.model).preprocess
        assert isinstance(stated, wp.Preprocess)
        scaled = torch.from_numpy(pictures.astype(np.float64) / 255)[:, None]
        inputs = (scaled - stated.mean[0]) / stated.std[0]
    if case.model in SHIPPED:
        inputs, classes = (inputs[24:], classes[24:]) if fit else (inputs[:24], classes[:24])
    if not case.masked:
        return [(x, int(c)) for x, c in zip(inputs, classes, strict=True)]
    count = inputs.shape[1] if case.model.endswith("kjv") else 50
    masks = torch.from_numpy(random.random((len(inputs), count)) < 0.7)
    masks[:, 0] = True
    return [(x, mask) for x, mask in zip(inputs, masks, strict=True)]


def measure(case: Case, metrics: list[str]) -> dict[str, list[float]]:
    """Each number that a case gives: `metric@site:layer` -> mean and std, and matrices in short."""
    options = dict(case.options)
    if options.pop("fit", False):
        options["fit_data"] = samples(case, fit=True)
    result = wp.probe(
        of(case.model), samples(case), metrics, batch_size=5, progress=False, **options
    )
    return told(result, first=case.first)


def told(result: wp.Result, *, first: int = 1) -> dict[str, list[float]]:
    """A result's table as name -> mean and std, and three sums of each layer of each matrix."""
    found = {}
    rows = result.frame.query("layer >= @first")
    swept = rows["eps"].nunique() > 1
    for row in rows.to_dict("records"):
        spread = row["std"]
        eps = f"[eps={row['eps']:g}]" if swept and row["eps"] == row["eps"] else ""
        key = f"{row['metric']}{eps}@{row['site']}:{row['layer']}"
        found[key] = [row["mean"]] if np.isnan(spread) else [row["mean"], spread]
    for name, stack in result.matrices.items():
        weight = np.cos(np.arange(stack[0].size)).reshape(stack[0].shape)
        for layer, matrix in enumerate(stack[first - 1 :], start=first):
            sums = matrix.sum(), (matrix**2).sum(), (matrix * weight).sum()
            found[f"{name}#{layer}"] = [float(value) for value in sums]
    return found


def kept() -> dict[str, dict[str, Any]]:
    """Case -> its metrics and its numbers, as the file holds them."""
    with np.load(NUMBERS) as archive:
        about = json.loads(archive["about"].tobytes().decode())
        numbers = archive["numbers"]
    found: dict[str, dict[str, Any]] = {}
    at = 0
    for name, (metrics, keys, lengths) in about.items():
        of_case = {}
        for key, length in zip(keys, lengths, strict=True):
            of_case[key] = numbers[at : at + length]
            at += length
        found[name] = {"metrics": metrics, "numbers": of_case}
    return found


def save(found: Mapping[str, tuple[list[str], Mapping[str, list[float]]]]) -> None:
    """Write the file of numbers."""
    about = {
        name: [metrics, list(numbers), [len(each) for each in numbers.values()]]
        for name, (metrics, numbers) in found.items()
    }
    flat = [x for _, numbers in found.values() for each in numbers.values() for x in each]
    packed = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
    np.savez_compressed(NUMBERS, about=packed, numbers=np.array(flat, dtype=np.float64))


Others = Mapping[str, Callable[[], dict[str, list[float]]]]


def others() -> Others:
    """What is no probe: similarity of two models, and an audit's statistics."""

    def similarity() -> dict[str, list[float]]:
        first, second = of("crate-tiny-fmnist"), of("vit-tiny-fmnist")
        data = samples(Case("", "crate-tiny-fmnist"))
        frame = wp.similarity(first, second, data, rank=8, progress=False).frame()
        return {
            f"{row['first_layer']}-{row['second_layer']}": [
                row["cka"], row["overlap"], row["procrustes"]
            ]
            for row in frame.to_dict("records")
        }  # fmt: skip

    def audit(name: str) -> Callable[[], dict[str, list[float]]]:
        def run() -> dict[str, list[float]]:
            data = samples(Case("", name))
            frame = wp.audit([of(name)], data, null=False, progress=False).frame
            return {
                row["claim"]: [row["value"], row["ci_low"], row["ci_high"]]
                for row in frame.to_dict("records")
                if not np.isnan(row["value"])
            }

        return run

    return {"similarity": similarity} | {f"audit of {name}": audit(name) for name in SHIPPED}
