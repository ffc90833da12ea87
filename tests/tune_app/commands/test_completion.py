"""Completion in real shells: commands, options, studies and configurations."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

# Each script prints, for every line that it reads, what the shell offers after it.
SCRIPTS = {
    "bash": """
eval "$(headroom completion bash)"
while read -ra COMP_WORDS; do
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
    _headroom_completion headroom
    echo "${COMPREPLY[*]}"
done
""",
    "fish": """
headroom completion fish | source
while read line
    echo (complete -C $line | string split --fields 1 \\t)
end
""",
}
OFFERED = {
    "headroom conf": {"config", "confirm"},
    "headroom status dem": {"demo", "demo-v2"},
    "headroom search mi": {"mine.yaml"},
    "headroom study diff demo configs/": {"configs/wide.yaml"},
    "headroom search mine.yaml --tr": {"--trials"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a working directory with two studies, two configurations, and ``headroom`` on its path."""
    for name in ("demo", "demo-v2"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.yaml").touch()
    (tmp_path / "configs").mkdir()
    for name in ("mine.yaml", "configs/wide.yaml", "configs/notes.txt"):
        (tmp_path / name).touch()
    command = tmp_path / "bin" / "headroom"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m tune_app "$@"\n')
    command.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_shell_completes(shell: str, folder: Path) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [program, "-c", SCRIPTS[shell]],
        cwd=folder,
        env=environment,
        input="".join(f"{line}\n" for line in OFFERED),
        capture_output=True,
        text=True,
    )
    offered = [set(line.split()) for line in ran.stdout.splitlines()]
    assert offered == list(OFFERED.values()), ran.stderr


def test_the_script_for_zsh_is_one(folder: Path) -> None:
    program = shutil.which("zsh")
    if program is None:
        pytest.skip("zsh is not installed")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    printed = subprocess.run([folder / "bin" / "headroom", "completion", "zsh"], env=environment, capture_output=True)
    assert printed.stdout.startswith(b"#compdef headroom")
    checked = subprocess.run([program, "--no-exec"], input=printed.stdout, capture_output=True)
    assert (checked.returncode, checked.stderr) == (0, b"")
