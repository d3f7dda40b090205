"""How much memory this process can still take: what the machine has free, and may be given.

A container or a job of a cluster is ended without a word by the kernel at the limit of its control
group, which is no property of the machine; psutil tells of the machine only.
"""

from collections.abc import Iterator
from pathlib import Path

from whitebox_probe._core.gate import said

_SYSTEM = Path("/")
_SAID = ("can't allocate memory", "cannot allocate memory", "out of memory")


def is_lack(error: BaseException) -> bool:
    """Whether it says that memory ran out: Python's error, torch's of a device or of the CPU.

    That of the CPU is a RuntimeError like any other, told by its text alone.

    >>> is_lack(MemoryError()), is_lack(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    (True, True)
    """
    kinds = {each.__name__ for each in type(error).__mro__}
    if kinds & {"MemoryError", "OutOfMemoryError"}:
        return True
    if not isinstance(error, RuntimeError | OSError):
        return False
    told = said(error).lower()
    return any(sign in told for sign in _SAID)


def available(system: Path = _SYSTEM) -> int:
    """Bytes that can be had: of the machine, of the control groups and of the process' limit.

    `system` is the root under which `proc` and `sys` lie.
    """
    import psutil

    process = psutil.Process()
    limits = [psutil.virtual_memory().available, *_left_in_groups(system)]
    if hasattr(process, "rlimit"):  # Linux
        soft = process.rlimit(psutil.RLIMIT_AS)[0]
        if soft >= 0:
            limits.append(soft - process.memory_info().vms)
    return max(0, min(limits))


def _left_in_groups(system: Path) -> Iterator[int]:
    """What each control group that this process is in, of version 1 and 2, leaves to it."""
    try:
        told = (system / "proc/self/cgroup").read_text()
    except OSError:  # no Linux
        return
    mounted = system / "sys/fs/cgroup"
    for line in told.splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            root, names = mounted, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = mounted / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = Path(path.lstrip("/"))
        for folder in (group, *group.parents):  # a group has no more than each that it lies in
            left = _left(root / folder, *names)
            if left is not None:
                yield left


def _left(folder: Path, limit: str, usage: str, idle: str) -> int | None:
    """The bytes left in one group; None where it has no limit, or does not tell."""
    try:
        most = int((folder / limit).read_text())  # "max" is no number
        taken = int((folder / usage).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return most - taken + int(stat.get(idle, 0))  # files that the kernel drops when asked
    except (OSError, ValueError):
        return None
