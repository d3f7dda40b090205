"""A process that has imported everything once, and forks one command after the other.

Each line of its input asks for one: words, folder, environment and files of the output. It answers
by the number of the process, and by how it ended.
"""

import importlib
import json
import os
import pkgutil
import resource
import runpy
import signal
import sys
import traceback
import warnings

from tests.kills import points

_LIBRARIES = (
    "altair", "filelock", "jinja2", "matplotlib.pyplot", "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf", "pandas", "pyarrow.parquet", "requests",
    "scipy.stats", "timm", "torch", "torchmetrics",
)  # fmt: skip


def warm() -> None:
    """Import the package and its libraries; nothing of them is called."""
    import whitebox_probe

    for name in _LIBRARIES:
        importlib.import_module(name)
    for each in pkgutil.walk_packages(whitebox_probe.__path__, "whitebox_probe."):
        if not each.name.endswith("__main__"):
            try:
                importlib.import_module(each.name)
            except ImportError:  # an engine whose package is not installed
                continue


def command(asked: dict) -> None:
    """In the child: run the command as `python -m whitebox_probe` does, and end as it does."""
    os.setsid()
    os.chdir(asked["folder"])
    os.environ.update(asked["environment"])
    for number, name in enumerate((os.devnull, asked["out"], asked["err"])):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(name, flags), number)
    if asked["most"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (asked["most"], resource.RLIM_INFINITY))
    sys.argv = ["whitebox-probe", *asked["words"]]
    sys.modules.pop("whitebox_probe.__main__", None)
    status = 1
    points.arm()
    os.write(asked["to"], json.dumps({"pid": os.getpid()}).encode() + b"\n")
    os.close(asked["to"])
    try:
        runpy.run_module("whitebox_probe", run_name="__main__")
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 0
    except BaseException:
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


def serve() -> None:
    """Answer until the input ends."""
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    warm()
    answers = os.dup(1)
    os.dup2(2, 1)
    os.write(answers, b"{}\n")
    for line in sys.stdin:
        asked = json.loads(line) | {"to": answers}
        pid = os.fork()
        if pid == 0:
            command(asked)
        _, status = os.waitpid(pid, 0)
        ended = {"status": os.waitstatus_to_exitcode(status)}
        os.write(answers, json.dumps(ended).encode() + b"\n")


if __name__ == "__main__":
    serve()
