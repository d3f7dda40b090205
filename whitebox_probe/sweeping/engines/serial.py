"""One cell after the other, in this process."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from whitebox_probe._core.errors import SweepError
from whitebox_probe.sweeping.engine import Ended, Engine, Job
from whitebox_probe.sweeping.measure import measure


class Serial(Engine):
    """Needs nothing that is not there."""

    name = "serial"

    def expect(self, job: Job) -> None:
        """Check that no number of workers is asked for.

        Raises: SweepError.
        """
        if job.workers not in (None, 1):
            raise SweepError(
                f"{job.workers} workers are asked for",
                "the engine 'serial' runs one cell after the other",
                "Name the engine ray or slurm, or leave workers out",
            )

    def run(self, folders: Sequence[Path], job: Job) -> Iterator[Ended]:
        """In their order."""
        for folder in folders:
            yield folder, _measured(folder, job)


def _measured(folder: Path, job: Job) -> str:
    """Why a cell was left alone, "" if it was not."""
    try:
        measure(folder, threads=job.threads, progress=job.progress)
    except SweepError as error:
        return str(error)
    return ""
