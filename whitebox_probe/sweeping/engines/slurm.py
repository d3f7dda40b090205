"""Several cells at a time through submitit: as an array of jobs of Slurm."""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from whitebox_probe._core.errors import SweepError
from whitebox_probe.sweeping.engine import Ended, Engine, Job
from whitebox_probe.sweeping.measure import measure

CLUSTER, LOGS = "cluster", "slurm-logs"
CLUSTERS = ("slurm", "local", "debug")
_SECONDS = 1.0
"""Between two looks at the jobs; submitit asks Slurm far less often."""
_PATIENCE = 30.0
WORKERS = 2
"""Of the cluster `local`, which is this machine."""


class Slurm(Engine):
    """A job a cell, of one task.

    A job at its time limit saves what it measured and is sent once more, as submitit has it. Its
    logs are in `slurm-logs`, below the sweep's folder, which all machines have to see.
    """

    name = "slurm"
    package = "submitit"
    extra = "slurm"

    def expect(self, job: Job) -> None:
        """Check that submitit is there, with Slurm.

        Raises: MissingDependency; SweepError.
        """
        super().expect(job)
        import shutil

        cluster = job.options.get(CLUSTER, "slurm")
        if cluster not in CLUSTERS:
            raise SweepError(
                f"there is no cluster '{cluster}' of slurm", "submitit has none", "Use slurm"
            )
        if cluster == "slurm" and shutil.which("srun") is None:
            raise SweepError(
                "there is no Slurm here",
                "its command srun is not found",
                "Start the sweep where jobs are sent from, or use the engine serial or ray",
            )

    def run(self, folders: Sequence[Path], job: Job) -> Iterator[Ended]:
        """As they end, which is in no order."""
        executor = _executor(job)
        task, waiting = _Task(job.threads), list(folders)
        running: dict[Any, Path] = {}
        try:
            if executor.cluster == "slurm":
                with executor.batch():  # one array, of which Slurm runs as many as workers say
                    sent = [executor.submit(task, str(each.absolute())) for each in waiting]
                running = dict(zip(sent, folders, strict=True))
                waiting = []
            while waiting or running:
                while waiting and len(running) < (job.workers or WORKERS):
                    folder = waiting.pop(0)
                    running[executor.submit(task, str(folder.absolute()))] = folder
                over = [each for each in running if each.done()]
                for each in over:
                    yield (
                        running.pop(each),
                        _why(each, job.out / LOGS, here=executor.cluster == "local"),
                    )
                if not over:
                    time.sleep(_SECONDS)
        finally:
            _stop(list(running))


class _Task:
    """What a job does; submitit asks it what is to be done after a time limit."""

    def __init__(self, threads: int | None) -> None:
        self.threads = threads

    def __call__(self, folder: str) -> None:
        measure(Path(folder), threads=self.threads)

    def checkpoint(self, folder: str) -> Any:
        """The same job: its cell goes on from its saved state."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, folder)


def _executor(job: Job) -> Any:
    """With the file's options, named as submitit names them.

    Raises: SweepError for one that it does not take.
    """
    import submitit

    options = {name: value for name, value in job.options.items() if name != CLUSTER}
    cluster = job.options.get(CLUSTER, "slurm")
    executor = submitit.AutoExecutor(folder=job.out.absolute() / LOGS, cluster=cluster)
    try:
        executor.update_parameters(name="whitebox-probe", **options)
        if job.workers is not None:
            executor.update_parameters(slurm_array_parallelism=job.workers)
    except (NameError, TypeError, ValueError, AssertionError) as error:
        told = " ".join(str(error).split())
        raise SweepError(
            "the section 'slurm' cannot be followed", told, "Name options as submitit does"
        ) from error
    return executor


def _why(job: Any, logs: Path, *, here: bool) -> str:
    """Why a job ended without an answer, "" if it did not."""
    from submitit.core.utils import UncompletedJobError

    ended = f"job {job.job_id} ended without an answer: see its logs in {logs}"
    if here and not job.paths.result_pickle.exists():
        return ended  # asked, submitit would wait for a slow file system
    error = job.exception()
    if error is None:
        return ""
    if isinstance(error, UncompletedJobError):
        return ended
    told = [line for line in str(error).splitlines() if line.strip()]
    last = told[-1].strip() if told else ""
    return f"job {job.job_id} ended ({type(error).__name__}: {last})"


def _stop(jobs: Sequence[Any]) -> None:
    """Cancel the jobs, and wait until they are gone."""
    for each in jobs:
        with suppress(Exception):  # it is gone already
            each.cancel()
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and not all(each.done() for each in jobs):
        time.sleep(0.1)
