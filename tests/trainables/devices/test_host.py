"""Memory of the host and of control groups, from files in the kernel's format."""

from pathlib import Path

from trainables.devices.host import HostMemory, host_memory

GIB = 2**30


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


MEMINFO = {"proc/meminfo": f"MemTotal: {64 * 2**20} kB\nMemFree: 1 kB\nMemAvailable: {40 * 2**20} kB\n"}


def test_this_machine_has_memory() -> None:
    memory = host_memory()
    assert 0 < memory.free_bytes < memory.total_bytes


def test_without_control_groups_it_is_the_machines(tmp_path: Path) -> None:
    write(tmp_path, MEMINFO)
    assert host_memory(tmp_path) == HostMemory(64 * GIB, 40 * GIB)


def test_the_narrowest_group_counts_and_its_cache_is_free(tmp_path: Path) -> None:
    group = "sys/fs/cgroup"
    write(tmp_path, MEMINFO | {"proc/self/cgroup": "0::/jobs/one\n"})
    write(
        tmp_path,
        {
            f"{group}/jobs/one/memory.max": "max\n",
            f"{group}/jobs/memory.max": f"{8 * GIB}\n",
            f"{group}/jobs/memory.current": f"{6 * GIB}\n",
            f"{group}/jobs/memory.stat": f"anon 5\ninactive_file {GIB}\n",
        },
    )
    assert host_memory(tmp_path) == HostMemory(8 * GIB, 3 * GIB)


def test_in_a_container_only_the_top_group_is_there(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/memory"
    write(tmp_path, MEMINFO | {"proc/self/cgroup": "5:cpu:/x\n4:memory:/docker/ab12\n0::/\n"})
    write(
        tmp_path,
        {
            f"{group}/memory.limit_in_bytes": f"{8 * GIB}\n",
            f"{group}/memory.usage_in_bytes": f"{6 * GIB}\n",
            f"{group}/memory.stat": f"total_inactive_file {GIB}\n",
        },
    )
    assert host_memory(tmp_path) == HostMemory(8 * GIB, 3 * GIB)


def test_no_limit_is_a_very_large_one(tmp_path: Path) -> None:
    write(tmp_path, MEMINFO | {"proc/self/cgroup": "4:memory:/\n"})
    write(tmp_path, {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"})
    assert host_memory(tmp_path) == HostMemory(64 * GIB, 40 * GIB)
