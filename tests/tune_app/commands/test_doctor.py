"""Findings and advice of the doctor."""

import io
import json
import os
import socket
from pathlib import Path

import pytest

from trainables.devices.facts import NvmlFacts, NvmlGpu, TorchDevice, TorchFacts
from trainables.devices.host import HostMemory
from tune_app.commands import doctor
from tune_app.commands.doctor import Finding
from tune_app.console import Console

NO_DRIVER = NvmlFacts(driver=None, absent="NVML Shared Library Not Found")
ONE_GPU = NvmlFacts(driver="570.86", gpus=(NvmlGpu("NVIDIA H200", 139.8, 0.6),))
CPU_TORCH = TorchFacts(version="2.13.0+cpu", cuda_build=None, cuda_available=False)
CUDA_TORCH = TorchFacts("2.13.0+cu128", "12.8", True, (TorchDevice("NVIDIA H200", (9, 0)),))


@pytest.fixture
def loopback_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def by_subject(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in findings}


def test_a_machine_without_a_driver_is_fit_for_searches_on_the_cpu(tmp_path: Path) -> None:
    findings = doctor.diagnose(str(tmp_path), environ={"HOME": str(tmp_path)}, nvml_seen=NO_DRIVER)
    found = by_subject(findings)
    assert found["GPU driver"].state == "note"
    assert "NVML Shared Library Not Found" in found["GPU driver"].found
    assert {found[name].state for name in ("Python", "torch", "Ray", "mlflow", "optuna-dashboard")} == {"ok"}
    assert doctor.exit_code(findings) == 0


def test_every_remedy_goes_with_something_to_mend(tmp_path: Path) -> None:
    broken = {"HOME": str(tmp_path), "CUDA_LAUNCH_BLOCKING": "1", "RAY_ADDRESS": "nonsense", "CUDA_VISIBLE_DEVICES": ""}
    for finding in doctor.diagnose(str(tmp_path), environ=broken, torch_seen=CPU_TORCH, nvml_seen=ONE_GPU):
        assert bool(finding.remedy) == (finding.state != "ok"), finding


def test_a_cpu_build_of_torch_is_a_problem_only_where_there_are_gpus() -> None:
    assert doctor.check_torch(CPU_TORCH, NO_DRIVER, hidden=False).state == "ok"
    finding = doctor.check_torch(CPU_TORCH, ONE_GPU, hidden=False)
    assert finding.state == "problem"
    assert "1 GPU" in finding.found
    assert "pytorch.org" in finding.remedy


def test_a_torch_that_cannot_use_the_gpus_says_why() -> None:
    facts = TorchFacts("2.13.0", "12.8", False, cuda_problem="The NVIDIA driver on your system is too old")
    finding = doctor.check_torch(facts, ONE_GPU, hidden=False)
    assert finding.state == "problem"
    assert "too old" in finding.found
    assert "570.86" in finding.remedy


def test_gpus_hidden_on_purpose_are_no_problem_of_torch() -> None:
    unseen = TorchFacts("2.13.0", "12.8", False)
    assert doctor.check_torch(unseen, ONE_GPU, hidden=True).state == "ok"
    assert doctor.check_visible_devices({"CUDA_VISIBLE_DEVICES": "-1"}, ONE_GPU).state == "note"
    assert doctor.check_visible_devices({"CUDA_VISIBLE_DEVICES": "0"}, ONE_GPU).found == "'0'"


def test_each_gpu_is_shown_with_what_others_hold_of_it() -> None:
    facts = NvmlFacts("570.86", (NvmlGpu("A", 24.0, 0.5), NvmlGpu("B", 24.0, 20.0), NvmlGpu("GB10", None, None)))
    driver, free, taken, shared = doctor.check_gpus(facts)
    assert driver.found == "570.86"
    assert (free.state, taken.state, shared.state) == ("ok", "note", "ok")
    assert "20.0 GiB in use" in taken.found


def test_a_driver_without_gpus_points_at_the_container() -> None:
    _, none = doctor.check_gpus(NvmlFacts("570.86"))
    assert none.state == "note"
    assert "--gpus all" in none.remedy


def test_fast_number_formats_begin_with_compute_capability_8() -> None:
    torch = TorchFacts("2.13.0", "12.8", True, (TorchDevice("T4", (7, 5)), TorchDevice("A100", (8, 0))))
    older, newer = doctor.check_units(torch)
    assert (older.state, newer.state) == ("note", "ok")
    assert "7.5" in older.found


@pytest.mark.parametrize(("value", "state"), [("1", "problem"), ("0", "ok"), ("", "ok")])
def test_launch_blocking_is_a_problem(value: str, state: str) -> None:
    assert doctor.check_launch_blocking({"CUDA_LAUNCH_BLOCKING": value}).state == state


def test_memory_is_what_the_container_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "host_memory", lambda: HostMemory(total_bytes=2**29, free_bytes=2**28))
    found = by_subject(doctor.diagnose(str(tmp_path), environ={}, torch_seen=CPU_TORCH, nvml_seen=NO_DRIVER))
    assert found["host memory"].found == "0.5 GiB (the limit of this container), 0.2 GiB available"


def test_little_memory_is_noted() -> None:
    assert doctor.check_memory(16.0, 12.0).state == "ok"
    assert doctor.check_memory(16.0, 2.0, limited=True).state == "note"


def test_shared_memory_smaller_than_the_object_store_is_noted() -> None:
    docker_default = doctor.check_shared_memory(64 * 2**20, 32 * 2**30)
    assert docker_default.state == "note"
    assert "--shm-size=10g" in docker_default.remedy
    assert doctor.check_shared_memory(16 * 2**30, 32 * 2**30).state == "ok"
    # Above 10 GB Ray takes no more than /dev/shm has.
    assert doctor.check_shared_memory(16 * 2**30, 512 * 2**30).state == "ok"


def test_a_ray_address_is_called_up(loopback_port: int) -> None:
    assert doctor.check_ray_address({}).state == "ok"
    assert doctor.check_ray_address({"RAY_ADDRESS": "nonsense"}).state == "problem"
    assert doctor.check_ray_address({"RAY_ADDRESS": f"127.0.0.1:{loopback_port}"}).state == "problem"
    with socket.create_server(("127.0.0.1", loopback_port)):
        for prefix, state in (("", "ok"), ("ray://", "ok"), ("http://", "note")):
            finding = doctor.check_ray_address({"RAY_ADDRESS": f"{prefix}127.0.0.1:{loopback_port}"})
            assert finding.state == state, finding


def test_a_folder_whose_path_no_socket_can_have_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_ray_folder().state == "ok"
    monkeypatch.setattr("tune_app.distributed.ray_files._LONGEST_SOCKET", 10)
    finding = doctor.check_ray_folder()
    assert finding.state == "problem"
    assert finding.found.startswith(("TMPDIR: no folder", "RAY_TMPDIR: no folder"))


def test_a_token_counts_only_with_the_mode(tmp_path: Path) -> None:
    assert "--generate" in doctor.check_ray_token({}, tmp_path).remedy
    assert "RAY_AUTH_MODE=token" in doctor.check_ray_token({"RAY_AUTH_TOKEN": "secret"}, tmp_path).remedy
    set_up = doctor.check_ray_token({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "secret"}, tmp_path)
    assert set_up.state == "ok"
    assert "secret" not in str(set_up)


def test_the_token_is_looked_for_where_ray_looks(tmp_path: Path) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("secret")
    assert doctor.check_ray_token({"RAY_AUTH_MODE": "token"}, tmp_path).state == "ok"
    missing = doctor.check_ray_token({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "absent")}, tmp_path)
    assert missing.state == "problem"
    (tmp_path / "empty").touch()
    assert doctor.check_ray_token({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "empty")}, tmp_path).state == "problem"


def test_ray_itself_agrees_on_the_order_of_token_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

    (tmp_path / "token").write_text("from file")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "from variable")
    loader = AuthenticationTokenLoader.instance()
    try:
        loader.reset_cache()
        assert loader.get_raw_token(ignore_auth_mode=True) == "from variable"
        assert "token in RAY_AUTH_TOKEN" in doctor.check_ray_token(os.environ, tmp_path).found
    finally:
        loader.reset_cache()


def test_a_run_directory_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    finding = doctor.check_run_root(str(tmp_path / "runs" / "deep"))
    assert finding.state in ("ok", "note")
    assert "GiB free" in finding.found
    assert list(tmp_path.iterdir()) == []


def test_a_run_directory_below_a_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert doctor.check_run_root(str(tmp_path / "file" / "runs")).state == "problem"


def test_a_store_is_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert doctor.check_run_root(f"file://{tmp_path}/runs").state == "ok"
    finding = doctor.check_run_root(f"file://{tmp_path}/file/runs")
    assert (finding.state, finding.found.partition(" (")[0]) == (
        "problem",
        f"study.dir: file://{tmp_path}/file/runs cannot be written",
    )
    unknown = doctor.check_run_root("ftp://key:hush@host/runs")
    assert unknown.state == "problem"
    assert "ftp://key:***@host/runs" in unknown.found
    assert "hush" not in unknown.found


def test_a_missing_package_is_noted() -> None:
    finding = doctor.check_package("no-such-program")
    assert (finding.state, finding.found) == ("note", "not installed")
    assert "pip install no-such-program" in finding.remedy


def test_json_says_whether_all_is_well() -> None:
    printed = json.loads(doctor.as_json([Finding("a", "problem", "b", "c")]))
    assert printed == {"ok": False, "findings": [{"subject": "a", "state": "problem", "found": "b", "remedy": "c"}]}


def test_shown_without_colour_codes_and_unbroken_where_there_is_no_terminal() -> None:
    output = io.StringIO()
    long = "x" * 300
    doctor.show([Finding("[a]", "note", long, "do it"), Finding("b", "ok", "fine")], Console(file=output, width=80))
    text = output.getvalue()
    assert "\x1b" not in text
    assert text.splitlines() == [
        f"note     [a]  {long}",
        "              → do it",
        "ok       b    fine",
        "no problems, 1 note",
    ]


def test_shown_as_a_table_on_a_terminal() -> None:
    output = io.StringIO()
    console = Console(file=output, width=80, force_terminal=True, color_system="standard")
    doctor.show([Finding("a", "problem", "word " * 40, "do it")], console)
    text = output.getvalue()
    assert "\x1b" in text
    assert "1 problem, no notes" in text
