"""Results, an audit, a similarity and images made up for figures: no model is run."""

from dataclasses import replace

import numpy as np
import pandas as pd

from whitebox_probe.auditing.thresholds import Thresholds
from whitebox_probe.auditing.verdicts import Audit
from whitebox_probe.metrics.catalogue import catalogue
from whitebox_probe.results.attention_maps import segmentation
from whitebox_probe.results.result import Result
from whitebox_probe.results.similarity import Similarity
from whitebox_probe.results.view import View

LAYERS = 3
SIZES = {"layers": LAYERS, "tokens": 10, "dim": 16, "heads": 2, "dim_head": 8}


def rows():
    """Every row that the table can have: name -> (measure's class, its label, its site)."""
    found = {}
    for name, kind in catalogue().items():
        if hasattr(kind, "rows"):
            for row in kind.rows:
                site = kind.site["paper"] if hasattr(kind, "site") else "weights"
                found[row] = (kind, kind.labels[row], site)
        else:
            found[name] = (kind, kind.label, kind.site["paper"])
    return found


def result(model, metrics=None, *, convention="paper", spread=True, seed=0, **run):
    """A result that holds some rows (all of them, if not given), without a model."""
    random = np.random.default_rng(seed)
    known, table, measures = rows(), [], {}
    for metric in known if metrics is None else metrics:
        kind, label, site = known[metric]
        measures[metric] = {"label": label, "unit": kind.unit, "group": kind.group}
        measures[metric] |= {"bases": kind.needs_basis, "better": getattr(kind, "better", None)}
        measures[metric] |= {"metric": kind.name}
        for layer in range(1, LAYERS + 1):
            mean = random.uniform(0.1, 900)
            half = 0.1 * mean if spread and not hasattr(kind, "rows") else float("nan")
            table.append(
                {"model": model, "layer": layer, "site": site.replace("{heads}", "heads_k")}
                | {"metric": metric, "basis": "qkv:k+qr", "convention": convention}
                | {"eps": 0.1 if kind.group == "rate" else float("nan")}
                | {"mean": mean, "std": 3 * half, "sem": half / 2}
                | {"ci_low": mean - half, "ci_high": mean + half, "count": 50}
            )
    matrices = {
        name: random.uniform(size=(LAYERS, size, size))
        for name, size in (("coherence", 2), ("overlap", 16))
    }
    matrices["angles"] = np.sort(random.uniform(0, 90, size=(LAYERS, 1, 8)))
    matrices["angles_random"] = np.tile(np.linspace(20, 88, 8), (LAYERS, 1))
    matrices["token_spectrum"] = -np.sort(-random.dirichlet(np.ones(16), size=LAYERS))
    told = SIZES | {"model": model, "family": "timm_vit", "convention": convention, "eps": 0.1}
    told |= {"basis": "qkv:k+qr", "prenorm": True, "class_token": True, "seed": 0, "bounds": {}}
    line = run.pop("null_line", None)
    if model.endswith("-init"):
        told["checkpoint"] = {"name": model, "initial_of": model.removesuffix("-init")}
    made = Result(
        pd.DataFrame(table), pd.DataFrame(), matrices, told | {"measures": measures} | run
    )
    return replace(made, run=replace(made.run, null_line=line))


def audit(*models):
    """An audit of every claim, with each verdict somewhere."""
    from whitebox_probe.auditing.claim import claims
    from whitebox_probe.plots.audit import LOOKS

    verdicts = [f"{word} eps" if word == "depends on" else word for word in LOOKS]
    frame, curves = [], []
    for j, model in enumerate(models):
        for i, claim in enumerate(claims().values()):
            verdict = verdicts[(i + j) % len(verdicts)]
            frame.append(
                {"model": model, "claim": claim.name, "text": claim.text, "value": -0.000123}
                | {"ci_low": -0.00456, "ci_high": 0.000789, "verdict": verdict}
                | {"reason": "its layers have no such step", "unit": "share of R^c"}
            )
            if verdict != "not applicable":
                layer = np.arange(1, LAYERS + 1)
                mean = np.linspace(1, -1, LAYERS) * 10.0 ** (i - 3)
                curves.append(
                    pd.DataFrame({"layer": layer, "mean": mean, "null_mean": mean / 2}).assign(
                        claim=claim.name,
                        model=model,
                        ci_low=mean - 0.1,
                        ci_high=mean + 0.1,
                        null_least=mean / 3,
                        null_most=mean * 0.7,
                        unit="nats",
                    )
                )
    settings = ("layers 2..", "eps 0.2", "half of the samples", "official")
    others = [
        {"model": row["model"], "claim": row["claim"], "setting": setting}
        | {"counts": (i + j) % 5 != 0, "agrees": (i + j) % 3 != 0, "value": 0.1, "p": 0.01}
        for i, row in enumerate(frame)
        for j, setting in enumerate(settings)
    ]
    curve = pd.concat(curves, ignore_index=True)
    return Audit(pd.DataFrame(frame), pd.DataFrame(others), pd.DataFrame(), curve, Thresholds())


def similarity(first="a", second="b"):
    """Between five layers and three."""
    matrix = np.linspace(0, 1, 15).reshape(5, 3)
    return Similarity(matrix, matrix, 2 * matrix, first, second, 50)


def images():
    """Two images, what was rebuilt of them, and what was hidden."""
    random = np.random.default_rng(0)
    shown = random.standard_normal((2, 3, 8, 8))
    return shown, shown / 2, random.uniform(size=(2, 1, 8, 8)) > 0.5


def view():
    """Three samples of 17 tokens, two heads, three layers: images, and words beside them."""
    random = np.random.default_rng(0)
    sites = {}
    for layer in range(1, LAYERS + 1):
        sites["z_out", layer] = random.standard_normal((3, 17, 8)).astype(np.float32)
        weights = random.uniform(size=(3, 2, 17, 17)).astype(np.float32)
        sites["attn_weights", layer] = weights / weights.sum(axis=-1, keepdims=True)
    images = random.uniform(size=(3, 16, 16, 3))
    words = tuple(tuple(" " + "a" * (1 + (i + j) % 5) for i in range(17)) for j in range(3))
    patches = tuple(range(1, 17))
    return View("crate", sites, images, words, grid=(4, 4), patches=patches, class_index=0)


def inputs(takes, *, names=("crate", "crate-init", "vit", "vit-init")):
    """What a figure is drawn of, by what it says that it takes."""
    if takes == "results":
        return tuple(result(name, seed=i) for i, name in enumerate(names))
    if takes == "similarity":
        return (similarity(*names[:2]),)
    if takes == "audit":
        return (audit(*names[:2]),)
    if takes == "images":
        return images()
    if takes == "view":
        return (view(),)
    if takes == "scores":
        masks = np.zeros((3, 16, 16), dtype=bool)
        masks[:, 4:12, 4:12] = True
        return (segmentation(view(), masks),)
    raise AssertionError(f"nothing is made up for a figure that takes {takes}: add it here")
