"""Measure one model on one data set, layer by layer, and save the result.

MODEL is a name of the registry (whitebox-probe list), timm:NAME, hf:NAME, a file, or what makes a
network of your own (model.py:make, package.module:make). A file's family and sizes are read from
it; what it does not hold is given with --set, or all of it with --arch. The folder given by --out
gets table.csv and table.parquet (every layer and measure with its interval), samples.parquet (every
sample), matrices.npz (coherence), and run.json (where it all came from).

Of several MODELs, such as ckpt-*.pt, each is measured in its turn: its folder is in --out, and has
its name, as its table does. Draw them with: whitebox-probe plot DIR/* --figure over_steps.

While it runs the folder holds what was measured so far. A run that was stopped, by Ctrl-C or by
force, goes on with: whitebox-probe run --resume DIR. Started by torchrun, the processes share the
samples (docs/many-machines.md).
"""

import argparse
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whitebox_probe._core import launch
from whitebox_probe._core.errors import ProbeError, ProcessError
from whitebox_probe._core.gate import Unfit, digest, is_file, not_as_written, read_mapping
from whitebox_probe._core.io import claimed, is_part, write_json
from whitebox_probe.cli import (
    _completing,
    _data,
    _json,
    _model,
    _numbers,
    _options,
    _screen,
    _series,
    _shared,
)
from whitebox_probe.probing.settings import Anew, Execution, Settings
from whitebox_probe.probing.state_files import ARGUMENTS, foreign_in, forget, states_in
from whitebox_probe.results import kinds as folders

if TYPE_CHECKING:
    import pandas as pd

    from whitebox_probe.results.result import Result

HELP = "measure one model on one data set"
EXAMPLES = (
    "run crate-tiny-fmnist --out runs/crate",
    "run crate-tiny-fmnist --weights random --name crate-untrained --out runs/untrained",
    "run crate-tiny-fmnist --metrics l0,hoyer --sites l0=attn_out --limit 200 --out runs/sparsity",
    "run timm:vit_small_patch16_224 --data imagenet/val --limit 1000 --out runs/vit",
    "run crate-tiny-kjv --data kjv --out runs/text",
    "run hf:openai-community/gpt2 --data book.txt --limit 200 --out runs/gpt2",
    "run model_best.pth.tar --arch crate_small --preprocess imagenet --data imagenet/val "
    "--out runs/mine",
    "run crate_mae.pth --set heads=12 --set lam=0.5 --preprocess imagenet --data imagenet/val "
    "--out runs/mae",
    "run ckpt-100.pt ckpt-2000.pt ckpt-9000.pt --arch crate_small --preprocess imagenet "
    "--data imagenet/val --limit 500 --out runs/training",
    "run weights.pth --arch model.py:make --mapping mine.yaml --data photos --out runs/own",
    "run --resume runs/mine",
)
DIGEST = "digest"
_FREE = (
    "command",
    "run",
    "words",
    "more",
    "out",
    "overwrite",
    "resume",
    "save_every",
    "workers",
    "quiet",
    "json",
)
_SETTINGS = tuple(each.name for each in fields(Settings))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    kinds = "checkpoint name, timm:NAME, hf:NAME, a file, or model.py:make"
    model = add("model", type=_shared.name_or_path, metavar="MODEL", nargs="?", help=kinds)
    further = "further ones, each measured into DIR/NAME"
    more = add("more", type=_shared.name_or_path, metavar="MODEL", nargs="*", help=further)
    for each in (model, more):
        _completing.by(each, "checkpoints", files=True)
    add("--out", type=_shared.place, metavar="DIR", help="folder of the result")
    add("--overwrite", action="store_true", help="replace a result that is in --out")
    add(
        "--resume",
        type=_shared.path,
        metavar="DIR",
        help="go on with the run that was stopped in DIR; its arguments need not be given again",
    )
    add(
        "--save-every",
        type=_seconds,
        default=60.0,
        metavar="SECONDS",
        help="how often the state of the run is saved, to resume from",
    )
    add = _model.add_options(parser).add_argument
    add("--name", help="what tables and figures call the model (default: its own name)")
    _data.add_options(parser)
    measures = parser.add_argument_group("the measures")
    add = measures.add_argument
    metrics = add(
        "--metrics",
        type=_shared.names,
        metavar="A,B,...",
        help="names (default: all that are on by default; whitebox-probe list --metrics)",
    )
    _completing.by(metrics, "metrics", several=True)
    add(
        "--sites",
        "--site",
        type=_shared.names,
        action="extend",
        default=[],
        metavar="METRIC=SITE,...",
        help="measure a metric at another place in the layer (whitebox-probe list --sites)",
    )
    _options.add_settings(measures, *(name for name in _SETTINGS if name != "limit"))
    pass_ = parser.add_argument_group("the pass (no number depends on batch size or workers)")
    _options.add_execution(pass_)
    _shared.add_progress(parser)
    _json.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    documents = _each(args)
    if args.json and launch.rank() == 0:
        _json.tell({"runs": documents})


def _each(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure every model; returns what --json tells of each."""
    if not args.more:
        return [_run(args)]

    def free(one: argparse.Namespace) -> None:
        if launch.rank() == 0:
            _refuse_existing(one.out, overwrite=one.overwrite)

    parts = _series.split(args, free)
    documents = []
    for number, one in enumerate(parts, start=1):
        if launch.rank() == 0 and not args.json:
            if number > 1:
                _screen.say()
            _screen.say(f"{number} of {len(parts)}: {one.model}")
        documents.append(_run(one))
    return documents


def _run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure one model, and say what was found or return it for --json."""
    if args.resume is not None:
        args = _resumed(args)
    elif args.model is None or args.out is None:
        missing = [name for name in ("model", "out") if getattr(args, name) is None]
        raise ProbeError(
            f"{' and '.join({'model': 'MODEL', 'out': '--out'}[m] for m in missing)} must be given",
            "a run measures a model, and writes a folder",
            "Run: whitebox-probe run --help",
        )
    Settings.of(**_options.given(args, without=[each.name for each in fields(Execution)]))
    Execution.of(workers=args.workers, batch_size=args.batch_size)  # before any weights are read
    sites: dict[str, list[str]] = {}
    for metric, site in (_pair(text) for text in args.sites):
        sites.setdefault(metric, []).append(site)
    if launch.launched():
        _join()  # first, so that the others learn of it if one ends
    if launch.rank() != 0:
        return _measured_into(args, sites)
    with _claimed(args):
        return _measured_into(args, sites)


@contextmanager
def _claimed(args: argparse.Namespace) -> Iterator[None]:
    """The folder of a run, checked, and its own until it ends.

    Raises: ProbeError for one that it cannot have, or that another run is at work in.
    """
    if args.resume is None:
        _refuse_existing(args.out, overwrite=args.overwrite)
    with claimed(args.out) as ours:
        if not ours:
            raise ProbeError(
                f"a run is at work in {args.out} already",
                "its result would be lost, or this one",
                "Wait for it, or name another --out",
            )
        if args.resume is None:
            _refuse_existing(args.out, overwrite=args.overwrite)  # again: it may just have ended
        else:
            _expect_no_others(args.out)
        yield


def _measured_into(args: argparse.Namespace, sites: dict[str, list[str]]) -> dict[str, Any]:
    """Measure one model into its folder, and say what was found or return it for --json."""
    first = launch.rank() == 0
    _model.known(args.model, args.arch)
    from whitebox_probe.probing.processes import current

    processes = current(wanted=launch.launched())
    begun = args.resume is not None

    def begin() -> None:
        """Only now is the folder this run's: an unfinished one there was whole until here."""
        nonlocal begun
        begun = True
        forget(args.out)
        if first:
            _write_arguments(args)
        processes.wait()  # no state is written before old ones are gone

    try:
        anew = args.resume is None
        kept = None if args.stream else Anew(args.out, begin) if anew else args.out
        result = _measured(args, sites, processes.one_a_machine_first, kept)
        processes.wait()
        if first:
            result.save(args.out)
    except KeyboardInterrupt as stop:
        if not begun:
            raise
        how = str(stop) or "stopped"
        raise type(stop)(f"{how}. Go on with: whitebox-probe run --resume {args.out}") from None
    except ProcessError:
        raise  # the run itself may be sound, and go on
    except Exception:
        # Nothing to go on from: the folder is as free for another try as it was.
        if first and begun and args.resume is None and not states_in(args.out):
            _leave_free(args.out)
        raise
    if first:
        # In this order: states that a kill left without arguments would stay for ever.
        forget(args.out)
        (args.out / ARGUMENTS).unlink(missing_ok=True)
    processes.wait()  # what they saved is needed until the result is there
    forget(args.out)  # on a disk of another machine's own
    if args.json:
        return _document(result, args.out)
    if first:
        _tell(result, args.out)
    return {}


def _join() -> None:
    from whitebox_probe.probing.processes import join

    join()


def _measured(
    args: argparse.Namespace,
    sites: dict[str, list[str]],
    in_turn: Callable[[], Any],
    kept: Path | Anew | None,
) -> "Result":
    """Load the model and probe it.

    Args: kept: where its state is; None for a stream, whose samples have no numbers to go on from.
    """
    from whitebox_probe.metrics.catalogue import measure_named
    from whitebox_probe.probing.plan import expect_packages
    from whitebox_probe.probing.probe import probe

    for metric in args.metrics or ():
        expect_packages(measure_named(metric))  # told before the weights are read
    data = _data.given(args)
    with in_turn():
        model = _model.loaded(args.model, args, progress=not args.quiet and launch.rank() == 0)
    return probe(
        model,
        data,
        args.metrics,
        sites=sites,
        name=args.name,
        progress=not args.quiet,
        checkpoint=kept,
        **_options.given(args, without=("checkpoint", "progress")),
    )


def _tell(result: "Result", folder: Path) -> None:
    """Print what was measured."""
    head = (
        f"{result.model} on {result.run['data']['name']}, {len(result.samples)} samples, "
        f"{_words(result, 'convention')} convention, basis {_words(result, 'basis')}; "
        "mean [95% interval]"
    )
    print(_screen.wrapped(head) + "\n")
    print(_shared.summary(_ends(result)))
    _shared.tell_if_few([result])
    _screen.say()
    _screen.say(f"every layer: {folder / 'table.csv'}", f"the result:  {folder}")
    print(f"\n{result.run['seconds']:.1f} s")


def _ends(result: "Result") -> "pd.DataFrame":
    return _shared.changes([result], list(dict.fromkeys(result.frame["metric"])))


def _document(result: "Result", folder: Path) -> dict[str, Any]:
    return {
        "model": result.model,
        "data": result.run["data"]["name"],
        "samples": len(result.samples),
        "convention": result.run["convention"],
        "basis": result.run["basis"],
        "seconds": result.run["seconds"],
        "changes": _json.records(_ends(result)),
        "layers": _json.records(result.frame),
        "notes": list(filter(None, [_shared.few([result])])),
        "out": folder,
    }


def _words(result: "Result", name: str) -> str:
    value = result.run[name]
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _write_arguments(args: argparse.Namespace) -> None:
    kept = {name: value for name, value in vars(args).items() if name not in _FREE}
    kept = json.loads(json.dumps(kept))
    write_json(args.out / ARGUMENTS, {**kept, DIGEST: digest(kept)})


def _resumed(args: argparse.Namespace) -> argparse.Namespace:
    """The arguments that the run was started with.

    Raises: ProcessError when there is no such run, it is finished, or an argument differs.
    """
    folder: Path = args.resume
    if not is_file(folder / ARGUMENTS):
        finished = is_file(folder / "run.json")
        raise ProcessError(
            f"there is nothing to go on with in {folder}",
            "its run is finished" if finished else "no run was stopped there",
            "Read the result, or measure again with --out" if finished else "Check the folder",
        )
    try:
        before = read_mapping(folder / ARGUMENTS)
        told = before.pop(DIGEST, None)
        if set(before) != {name for name in vars(args) if name not in _FREE}:
            raise Unfit("it is of another version of this program")
        if told != digest(before):
            not_as_written(ARGUMENTS)
    except Unfit as why:
        raise ProcessError(
            f"{folder / ARGUMENTS} cannot be read", str(why), "Begin anew with --out"
        ) from why
    given = _given(args)
    if given.get("out", folder) != folder or "overwrite" in given:
        raise ProcessError(
            "--resume was given with --out or --overwrite",
            "a run goes on in its own folder",
            "Leave them out",
        )
    now = json.loads(json.dumps(given, default=str))  # as they were kept: tuples are lists there
    changed = [
        _changed(name, before[name], value)
        for name, value in now.items()
        if name in before and value != before[name]
    ]
    if changed:
        raise ProcessError(
            f"the run in {folder} cannot go on with other arguments",
            f"changed since it began: {', '.join(changed)}",
            f"Use --resume {folder} alone, or begin anew with --out",
        )
    return argparse.Namespace(**vars(args) | before | {"out": folder})


def _changed(name: str, was: Any, now: Any) -> str:
    """An argument that differs, as it is written on the command line."""
    bare = argparse.ArgumentParser(add_help=False)
    add_arguments(bare)
    action = next(action for action in bare._actions if action.dest == name)
    if isinstance(was, bool) and action.const is False:  # --no-prenorm: given, it is off
        was, now = not was, not now
    return f"{(action.option_strings or ['MODEL'])[0]} (was {was}, is {now})"


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments that stand on the command line, without any default."""
    bare = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_arguments(bare)
    words = list(args.words)
    words.remove("run")
    nothing = argparse.Namespace(**dict.fromkeys(vars(args)))  # what is there gets no default
    found = vars(bare.parse_args(words, nothing))
    return {name: value for name, value in found.items() if value is not None}


def _leave_free(folder: Path) -> None:
    (folder / ARGUMENTS).unlink(missing_ok=True)
    with suppress(OSError):  # it held other files before
        folder.rmdir()


def _refuse_existing(folder: Path, *, overwrite: bool) -> None:
    """Check the folder of the result before any work is done."""
    _shared.fillable(folder, folders.RESULT)
    if (folder / ARGUMENTS).is_file() and not overwrite:
        raise ProbeError(
            f"{folder} holds a run that is not finished",
            "it was stopped, or is still going on",
            f"Go on with: whitebox-probe run --resume {folder}; or add --overwrite",
        )
    held = folder.is_dir() and any(not is_part(path.name) for path in folder.iterdir())
    if held and not overwrite:
        raise ProbeError(
            f"{folder} is not empty",
            "it holds a result already" if (folder / "run.json").exists() else "it holds files",
            "Name another --out, or add --overwrite",
        )
    if foreign := foreign_in(folder):
        raise ProbeError(
            f"nothing can be written to {folder}",
            f"{foreign[0].name} in it is called as the state of a run, and is none",
            "Move it away, or name another --out",
        )


def _expect_no_others(folder: Path) -> None:
    """Check that a run that goes on replaces nothing that was put there meanwhile.

    An older result may be there, which --overwrite was given for.
    """
    from whitebox_probe.results.result import Result

    files = folders.FILES[folders.RESULT]
    if not (there := [name for name in files if os.path.lexists(folder / name)]):
        return
    try:
        Result.load(folder)
    except ProbeError as error:
        raise ProbeError(
            f"{folder} holds {there[0]}, which is of no result",
            "that of the run would replace it",
            "Move it away, and resume again",
        ) from error


def _seconds(text: str) -> float:
    try:
        value = _numbers.number(text)
    except ValueError:
        value = -1.0
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds of 0 or more")
    return value


def _pair(text: str) -> tuple[str, str]:
    metric, equals, site = text.partition("=")
    if not equals:
        raise ProbeError(
            f"--sites {text} is not understood",
            "it has no '='",
            "Write METRIC=SITE, as in l0=z_half",
        )
    return metric.strip(), site.strip()
