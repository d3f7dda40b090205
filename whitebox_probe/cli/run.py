"""Measure one model on one data set, layer by layer, and save the result.

MODEL is a name of the registry (whitebox-probe list), timm:NAME, hf:NAME (a language model), or a
file with --arch. The folder given by --out gets table.csv and table.parquet (every layer and
measure with its interval), samples.parquet (every sample), matrices.npz (coherence), and run.json
(where it all came from).
"""

import argparse
from pathlib import Path

from whitebox_probe._core.errors import ProbeError
from whitebox_probe.cli import _shared

HELP = "measure one model on one data set"
EXAMPLES = (
    "run crate-tiny-fmnist --out runs/crate",
    "run crate-tiny-fmnist --weights random --name crate-untrained --out runs/untrained",
    "run crate-tiny-fmnist --metrics l0,hoyer --sites l0=attn_out --limit 200 --out runs/sparsity",
    "run timm:vit_small_patch16_224 --data imagenet/val --limit 1000 --out runs/vit",
    "run crate-tiny-kjv --data kjv --out runs/text",
    "run hf:openai-community/gpt2 --data book.txt --limit 200 --out runs/gpt2",
    "run model_best.pth.tar --arch crate_small --data imagenet/val --out runs/mine",
)
_FILES = frozenset({".pth", ".pt", ".tar", ".bin", ".ckpt", ".safetensors"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        help="checkpoint name, timm:NAME, hf:NAME, or a file (with --arch)",
    )
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the result")
    add("--overwrite", action="store_true", help="replace a result that is in --out")
    model = parser.add_argument_group("the model")
    add = model.add_argument
    add("--arch", help="architecture of a file: whitebox-probe list --architectures, or timm:NAME")
    add("--wrapper", metavar="KEY", help="key of the weights, in a file that holds several sets")
    add(
        "--weights",
        choices=("pretrained", "random"),
        default="pretrained",
        help="random: the same architecture, untrained, drawn by --seed",
    )
    add("--name", help="what tables and figures call the model (default: its own name)")
    data = parser.add_argument_group("the data")
    add = data.add_argument
    add(
        "--data",
        default="fashion-mnist",
        help="name (whitebox-probe list --data), folder of images, or text file (.txt)",
    )
    add("--limit", type=_shared.count, metavar="N", help="N samples drawn by --seed (default: all)")
    measures = parser.add_argument_group("the measures")
    add = measures.add_argument
    add(
        "--metrics",
        type=_shared.names,
        metavar="A,B,...",
        help="names (default: all that are on by default; whitebox-probe list --metrics)",
    )
    add(
        "--sites",
        "--site",
        type=_shared.names,
        action="extend",
        default=[],
        metavar="METRIC=SITE,...",
        help="measure a metric at another place in the layer (whitebox-probe list --sites)",
    )
    add(
        "--convention",
        choices=("paper", "official"),
        default="paper",
        help="how tokens enter the formulas: as they are, or as in the CRATE release's own script",
    )
    add(
        "--basis",
        help="which U: native, qkv:q, qkv:k, qkv:v, qk, pca, pca:clusters, random "
        "(default: the family's own)",
    )
    add(
        "--orthonormal",
        action="store_true",
        help="orthonormalise each head's basis by QR, as the formulas assume",
    )
    add(
        "--no-prenorm",
        action="store_true",
        help="take rates of the tokens as they are, not after the layer's attention norm",
    )
    add(
        "--no-class-token",
        action="store_true",
        help="leave out the tokens before the patches (class token, registers)",
    )
    add(
        "--eps",
        type=_numbers,
        default="0.1",
        metavar="E[,E,...]",
        help="coding precision; squared in the formulas; several are swept in one pass",
    )
    add(
        "--null",
        choices=("gaussian", "shuffled", "random_subspaces"),
        help="measure this null instead of the model's tokens",
    )
    add("--lam", type=float, default=0.1, help="nats that a non-zero entry costs, in the SRR")
    pass_ = parser.add_argument_group("the pass (no number depends on batch size or workers)")
    add = pass_.add_argument
    add("--batch-size", type=_shared.count, default=32, metavar="N", help="samples at a time")
    add("--workers", type=int, default=0, metavar="N", help="extra processes that read images")
    add("--device", help="cpu, cuda, cuda:1, mps, ... (default: cpu)")
    add(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="of the forward pass; measures are always in float64",
    )
    add(
        "--nonfinite",
        choices=("raise", "drop"),
        default="raise",
        help="samples whose features hold NaN or infinity: stop, or leave them out and list them",
    )
    add("--seed", type=int, default=0, help="of the draw of samples, and of the bootstrap")
    _shared.add_progress(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    _refuse_existing(args.out, overwrite=args.overwrite)
    sites: dict[str, list[str]] = {}
    for metric, site in (_pair(text) for text in args.sites):
        sites.setdefault(metric, []).append(site)
    if args.workers < 0:
        raise ProbeError(f"--workers is {args.workers}", "it is a number", "Use 0 or more")
    _known(args.model, args.arch)
    from whitebox_probe.engine import probe
    from whitebox_probe.metrics.base import metric_named
    from whitebox_probe.models._loading import load

    for metric in args.metrics or ():
        metric_named(metric)  # a wrong name is told before the weights are read
    model = load(
        args.model,
        arch=args.arch,
        weights=args.weights,
        wrapper=args.wrapper,
        seed=args.seed,
        progress=not args.quiet,
    )
    result = probe(
        model,
        args.data,
        args.metrics,
        sites=sites,
        convention=args.convention,
        basis=args.basis,
        orthonormal=args.orthonormal,
        prenorm=not args.no_prenorm,
        class_token=not args.no_class_token,
        eps=args.eps,
        null=args.null,
        nonfinite=args.nonfinite,
        lam=args.lam,
        limit=args.limit,
        batch_size=args.batch_size,
        workers=args.workers,
        device=args.device,
        dtype=args.dtype,
        seed=args.seed,
        name=args.name,
        progress=not args.quiet,
    )
    # Without run.json a folder is no result: a kill between two files cannot mix old and new.
    (args.out / "run.json").unlink(missing_ok=True)
    folder = result.save(args.out)
    measures = list(dict.fromkeys(result.frame["metric"]))
    print(
        f"{result.model} on {result.run['data']['name']}, {len(result.samples)} samples, "
        f"{result.run['convention']} convention, basis {result.run['basis']}; "
        "mean [95% bootstrap interval]\n"
    )
    print(_shared.summary(_shared.changes([result], measures)))
    print(f"\nevery layer: {folder / 'table.csv'}\nthe result:  {folder}")
    print(f"\n{result.run['seconds']:.1f} s")


def _refuse_existing(folder: Path, *, overwrite: bool) -> None:
    """Check the folder of the result before any work is done."""
    _shared.writable(folder)
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise ProbeError(
            f"{folder} is not empty",
            "it holds a result already" if (folder / "run.json").exists() else "it holds files",
            "Name another --out, or add --overwrite",
        )


def _known(model: str, arch: str | None) -> None:
    """Tell a wrong name at once, before torch is loaded."""
    if arch is not None or Path(model).is_file():
        return
    if "/" in model or Path(model).suffix in _FILES:
        if not model.startswith(_shared.LIBRARIES):
            raise ProbeError(
                f"there is no file {model}",
                "a path was given as the model",
                "Check the path; whitebox-probe list gives the names",
            )
    else:
        _shared.named(model)


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a number, or several with commas"
        ) from None


def _pair(text: str) -> tuple[str, str]:
    metric, equals, site = text.partition("=")
    if not equals:
        raise ProbeError(
            f"--sites {text} is not understood",
            "it has no '='",
            "Write METRIC=SITE, as in l0=z_half",
        )
    return metric.strip(), site.strip()
