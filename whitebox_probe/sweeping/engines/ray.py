"""Several cells at a time through Ray: on the cores of this machine, or on a cluster."""

import os
import secrets
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from whitebox_probe._core.errors import ProbeError, SweepError, nearest
from whitebox_probe.sweeping.engine import Ended, Engine, Job
from whitebox_probe.sweeping.measure import measure

ADDRESS = "address"
OPTIONS = (ADDRESS, "num_cpus", "num_gpus", "memory", "resources")
"""Of the file's section `ray`: where a cluster is, and what a cell needs of it."""
WORKERS = 2
_TRIES = 3
_ALL = 1_000_000
_BREAKPOINT = "PYTHONBREAKPOINT"
_NO_TELEMETRY = {"RAY_USAGE_STATS_ENABLED": "0"}
_SECONDS = 30.0
"""That cells have to save what they measured, when they are stopped."""


class Ray(Engine):
    """A task a cell, never tried a second time: a worker that dies costs its cell alone.

    Without an address a cluster of this machine is started for the sweep, which listens to this
    machine alone and is gone with it, without telemetry and without a dashboard.
    """

    name = "ray"
    package = "ray"
    extra = "ray"

    def expect(self, job: Job) -> None:
        """Check that Ray is there, and what is asked of it.

        Raises: MissingDependency; SweepError.
        """
        super().expect(job)
        for name in job.options:
            if name not in OPTIONS:
                raise SweepError(
                    f"unknown key '{name}' in 'ray'", "no task takes it", nearest(name, OPTIONS)
                )

    def run(self, folders: Sequence[Path], job: Job) -> Iterator[Ended]:
        """As they end, which is in no order."""
        needs = {"num_cpus": job.threads or 1}
        needs |= {name: value for name, value in job.options.items() if name != ADDRESS}
        with _cluster(job) as (ray, most):
            task = ray.remote(max_retries=0, max_calls=1, **needs)(_measured)
            left = list(folders)
            running: dict[Any, Path] = {}
            try:
                while left or running:
                    while left and len(running) < most:
                        folder = left.pop(0)
                        running[task.remote(str(folder.absolute()), job.threads or 1)] = folder
                    ready, _ = ray.wait(list(running), num_returns=1)
                    for each in ready:
                        yield running.pop(each), _why(ray, each)
            finally:
                _stop(ray, list(running))


def _measured(folder: str, threads: int) -> None:
    """What a worker does."""
    measure(Path(folder), threads=threads)


def _why(ray: Any, reference: Any) -> str:
    """Why a task ended without an answer, "" if it did not."""
    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        return str(cause) if isinstance(cause, ProbeError) else f"{type(cause).__name__}: {cause}"
    except ray.exceptions.RayError as error:
        told = (str(error).strip().splitlines() or [""])[0]
        return f"its worker ended ({type(error).__name__}: {told})"
    return ""


def _stop(ray: Any, running: Sequence[Any]) -> None:
    """Let tasks save what they have measured, as Ctrl-C does."""
    for each in running:
        with suppress(ray.exceptions.RayError):
            ray.cancel(each)
    if running:
        ray.wait(list(running), num_returns=len(running), timeout=_SECONDS)


@contextmanager
def _cluster(job: Job) -> Iterator[tuple[Any, int]]:
    """Ray, and how many tasks run at a time; what was started here is gone afterwards."""
    address = job.options.get(ADDRESS)
    alone = address is None and (_here.cache_info().currsize > 0 or "ray" not in sys.modules)
    with ExitStack() as stack:
        stack.enter_context(_environment(_NO_TELEMETRY | (_here() if alone else {})))
        import ray

        told: dict[str, Any] = {"address": address}
        if address is None:
            # Short: Unix allows a socket's path about 100 characters.
            kept = TemporaryDirectory(prefix="wp-", ignore_cleanup_errors=True)
            folder = stack.enter_context(kept)
            cores = (job.workers or WORKERS) * int(job.options.get("num_cpus", job.threads or 1))
            told = {"num_cpus": cores, "include_dashboard": False, "_temp_dir": folder}
        if not ray.is_initialized():  # else it is the caller's, and stays
            stack.callback(ray.shutdown)
            _start(ray, told)
        yield ray, job.workers or (WORKERS if address is None else _ALL)


def _start(ray: Any, told: Mapping[str, Any]) -> None:
    """Start or join a cluster; Ray gives its own 30 seconds, which a busy machine exceeds.

    Raises: SweepError.
    """
    where = told.get(ADDRESS)
    error: Exception | None = None
    for _ in range(_TRIES if where is None else 1):
        error = _failed(ray, told)
        if error is None:
            return
    raise SweepError(
        f"no cluster of Ray answers at {where}" if where else "Ray cannot be started",
        (str(error).strip().splitlines() or [type(error).__name__])[0],
        "Check its address" if where else "Use the engine serial",
    ) from error


def _failed(ray: Any, told: Mapping[str, Any]) -> Exception | None:
    """Why Ray was not started, if it was not."""
    try:
        with _own_signals():
            ray.init(**told, log_to_driver=False, configure_logging=False)
    except Exception as error:  # Ray raises bare ones
        ray.shutdown()
        return error
    return None


@cache
def _here() -> dict[str, str]:
    """What makes a cluster listen to this machine alone, and to who knows a word of this process.

    Ray would write a word of its own into the home folder. It reads these when it is imported:
    where a program has done so before, its own ways stand.
    """
    return {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # of any system: no other machine can join
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """These variables set, and afterwards all as it was: Ray sets others of its own."""
    before = _of_ray()
    os.environ.update(changes)
    try:
        yield
    finally:
        for name in _of_ray():
            del os.environ[name]
        os.environ.update(before)


def _of_ray() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k.startswith("RAY_") or k == _BREAKPOINT}


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray sets a handler of SIGTERM that ends the process without an answer."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
