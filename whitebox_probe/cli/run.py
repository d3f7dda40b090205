"""Measure one model on one data set, layer by layer, and save the result.

MODEL is a name of the registry (whitebox-probe list), timm:NAME, or a file with --arch.
"""

import argparse
from pathlib import Path

from whitebox_probe._core.errors import ProbeError
from whitebox_probe.cli import _shared

HELP = "measure one model on one data set"
EXAMPLES = (
    "run crate-tiny-fmnist --out runs/crate",
    "run timm:vit_small_patch16_224 --data imagenet/val --limit 1000 --out runs/vit",
    "run model_best.pth.tar --arch crate_small --data imagenet/val --out runs/mine",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="checkpoint name, timm:NAME, or a file (with --arch)")
    add("--out", type=Path, required=True, help="folder of the result")
    add("--arch", help="architecture of a file: whitebox-probe list --architectures")
    add(
        "--weights",
        choices=("pretrained", "random"),
        default="pretrained",
        help="random: the same architecture, untrained",
    )
    add("--data", default="fashion-mnist", help="data set name or folder of images")
    add("--limit", type=int, help="use so many samples, drawn by --seed")
    add(
        "--metrics",
        type=_shared.names,
        metavar="A,B,...",
        help="measures (default: all that are on by default; whitebox-probe list --metrics)",
    )
    add(
        "--site",
        action="append",
        default=[],
        metavar="METRIC=SITE",
        dest="sites",
        help="measure a metric at another site; may be repeated",
    )
    add(
        "--convention",
        choices=("paper", "official"),
        default="paper",
        help="how tokens enter the formulas",
    )
    add("--basis", help="which U: native, qkv:q, qkv:k, qkv:v (default: the family's own)")
    add("--orthonormal", action="store_true", help="orthonormalise the basis by QR")
    add("--eps", type=float, default=0.1, help="coding precision; squared in the formulas")
    add("--lam", type=float, default=0.1, help="nats that a non-zero entry costs, in the SRR")
    add("--batch-size", type=int, default=32, help="samples in one forward pass")
    add("--workers", type=int, default=0, help="processes that read and prepare images")
    add("--device", help="cpu, cuda, ... (default: cpu)")
    add(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="of the forward pass; measures are in float64",
    )
    add("--seed", type=int, default=0, help="of the draw of samples and of the bootstrap")
    add("--name", help="what tables and figures call the model")
    add("--overwrite", action="store_true", help="replace a result that is in --out")
    _shared.add_progress(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    _shared.new_folder(args.out, overwrite=args.overwrite)
    sites = dict(_pair(text) for text in args.sites)
    from whitebox_probe.engine import probe
    from whitebox_probe.models._loading import load

    model = load(
        args.model, arch=args.arch, weights=args.weights, seed=args.seed, progress=not args.quiet
    )
    result = probe(
        model,
        args.data,
        args.metrics,
        sites=sites,
        convention=args.convention,
        basis=args.basis,
        orthonormal=args.orthonormal,
        eps=args.eps,
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
    folder = result.save(args.out)
    measures = dict.fromkeys(result.frame["metric"])
    print(
        f"{result.model} on {result.run['data']['name']}, {len(result.samples)} samples, "
        f"{result.run['convention']} convention, basis {result.run['basis']}; "
        "mean [95% bootstrap interval]\n"
    )
    print(_shared.summary([result], [(metric, metric) for metric in measures]))
    print(f"\n{folder}")


def _pair(text: str) -> tuple[str, str]:
    metric, equals, site = text.partition("=")
    if not equals:
        raise ProbeError(
            f"--site {text} is not understood",
            "it has no '='",
            "Write METRIC=SITE, as in l0=z_half",
        )
    return metric, site
