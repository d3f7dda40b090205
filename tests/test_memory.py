"""How much memory there is, by the machine, its control groups, and the process' own limit."""

import subprocess
import sys

import psutil
import pytest

from whitebox_probe._core.memory import available

GIB = 1 << 30


def group(folder, limit, usage, stat, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in zip(names, (limit, usage, stat), strict=True):
        (folder / name).write_text(f"{text}\n")


V2 = ("memory.max", "memory.current", "memory.stat")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")


@pytest.fixture
def system(tmp_path):
    def of(told):
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(told)
        return tmp_path

    return of


def test_a_machine_without_control_groups_has_what_is_free(tmp_path):
    assert available(tmp_path) == pytest.approx(psutil.virtual_memory().available, rel=0.2)


def test_a_control_group_has_its_limit_less_its_use_and_the_files_it_can_drop(system):
    root = system("0::/job/step\n") / "sys/fs/cgroup"
    group(root / "job/step", "max", GIB, "inactive_file 5", V2)
    assert available(root.parents[2]) > GIB // 8  # no limit of its own
    group(root / "job", 3 << 20, 2 << 20, f"anon 7\ninactive_file {1 << 19}", V2)
    assert available(root.parents[2]) == (1 << 20) + (1 << 19)
    group(root / "job/step", 1 << 20, 1 << 18, "inactive_file 0", V2)
    assert available(root.parents[2]) == (1 << 20) - (1 << 18)


def test_a_group_of_the_first_version_and_its_parents_count(system):
    root = system("3:cpu:/x\n9:hugetlb,memory:/docker/abc\n0::/\n") / "sys/fs/cgroup/memory"
    group(root, 9223372036854771712, GIB, "total_inactive_file 0", V1)  # "no limit", as v1 says it
    group(root / "docker", 1 << 22, 1 << 20, "total_inactive_file 0", V1)
    group(root / "docker/abc", 1 << 23, 1 << 20, "total_inactive_file 0", V1)
    assert available(root.parents[3]) == (1 << 22) - (1 << 20)


def test_a_group_over_its_limit_leaves_nothing(system):
    root = system("0::/\n") / "sys/fs/cgroup"
    group(root, 1 << 20, 1 << 21, "inactive_file 0", V2)
    assert available(root.parents[2]) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="limits of a process are told on Linux")
def test_the_limit_of_the_process_counts():
    told = (
        "import resource; from whitebox_probe._core.memory import available; import psutil; "
        "most = psutil.Process().memory_info().vms + (1 << 28); "
        "resource.setrlimit(resource.RLIMIT_AS, (most, most)); print(available())"
    )
    run = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert (1 << 27) < int(run.stdout) <= 1 << 28
