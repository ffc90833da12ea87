"""Runner of the benches of this folder.

    scripts/bench/run [--quick] [BENCH …]

Without names it runs every bench. ``--quick`` runs the small form of each, which shows that the bench still runs and
that its output ends in the line of JSON that tools read. Its figures mean nothing. A bench that fails prints all of its
output, the others one line each. The exit status is 1 if a bench failed.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]


@dataclass(frozen=True)
class Bench:
    """Bench with the options of its quick form.

    Attributes:
        statuses: exit statuses of a quick run that succeeded.
        has_json: the last line of the output is JSON.
        package: optional package that the bench needs.
    """

    name: str
    quick: tuple[str, ...] = ()
    statuses: tuple[int, ...] = (0,)
    has_json: bool = True
    package: str | None = None


BENCHES = (
    Bench("toy", has_json=False),
    Bench("problems"),
    Bench("split", ("--repeats", "3")),
    Bench("cpu_budget", ("--quick",)),
    Bench("claims", ("--quick",), has_json=False),
    Bench("gpu_check", ("--device", "cpu")),
    Bench("predict_cpu", ("--cases", "2")),
    Bench("deberta", ("--quick", "--rounds", "1")),
    Bench("probe", ("--cases", "2", "--seed", "3")),
    Bench("wide", ("--samples", "2")),
    Bench("packing", ("--part", "simulation", "--quick")),
    # One search decides nothing.
    Bench("plan", ("--searches", "1"), statuses=(0, 1)),
    Bench("outcomes", ("--quick",)),
    Bench("oom", ("--quick",)),
    Bench("quality", ("--quick",)),
    Bench("confirm", ("--quick",)),
    Bench("predict", ("--model", "tiny-bert", "--rows", "60", "--rounds", "1")),
    Bench("throughput", ("--rows", "60", "--rounds", "1"), package="accelerate"),
    Bench("against_hf", ("--rows", "60", "--trials", "2", "--epochs", "1"), package="accelerate"),
    Bench("overhead", ("--quick",)),
    # A study of a few trials exceeds the limit, which holds for thousands.
    Bench("disk", ("--trials", "12"), statuses=(0, 1)),
    # Kill at the first report: a search this short may be over a second later.
    Bench("crash", ("--kills", "1", "--trials", "3", "--within", "0")),
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", metavar="BENCH", help=f"one of {', '.join(bench.name for bench in BENCHES)}"
    )
    parser.add_argument("--quick", action="store_true", help="run the small form of each")
    options = parser.parse_args(arguments)
    known = {bench.name: bench for bench in BENCHES}
    for name in options.names:
        if name not in known:
            parser.error(f"no bench is called {name!r}; known: {', '.join(known)}")
    wanted = [known[name] for name in options.names] or list(BENCHES)
    failed = [bench.name for bench in wanted if not run(bench, quick=options.quick)]
    print(f"{len(failed)} of {len(wanted)} failed{': ' if failed else ''}{', '.join(failed)}")
    return int(bool(failed))


def run(bench: Bench, *, quick: bool) -> bool:
    """Run a bench in a process of its own, print its end in a line, and return True unless it failed."""
    if bench.package is not None and find_spec(bench.package) is None:
        print(f"{bench.name}: skipped, it needs {bench.package} (pip install {bench.package})", flush=True)
        return True
    command = [sys.executable, str(FOLDER / f"{bench.name}.py"), *(bench.quick if quick else ())]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    begun = time.perf_counter()
    ran = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    problem = problem_of(bench, ran.returncode, ran.stdout, quick=quick)
    if problem or not quick:
        print(ran.stdout)
    print(f"{bench.name}: {problem or 'ok'}, {time.perf_counter() - begun:.0f} s", flush=True)
    return problem is None


def problem_of(bench: Bench, status: int, output: str, *, quick: bool) -> str | None:
    """Return the fault of a run, or None."""
    if status not in (bench.statuses if quick else (0,)):
        return f"failed with exit status {status}"
    lines = output.splitlines()
    if not lines:
        return "failed, it printed nothing"
    if bench.has_json:
        try:
            json.loads(lines[-1])
        except json.JSONDecodeError:
            return "failed, its last line is not JSON"
    return None
