"""The command line. Imports are lazy: ``--help`` answers at once, and ``status`` never waits for Ray or torch."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from tune_app import __version__
from tune_app.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from tune_app.config import RunConfig
    from tune_app.experiment import SearchEnd
    from tune_app.study import StudyStore

_PIPE_WIDTH = 200

DONE, NOTHING_COMPLETE, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

_overrides = click.option(
    "-s",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Override a setting by its dotted name; VALUE is YAML. Repeatable. Entries of the space too: "
    "-s space.train.batch_size.choices='[8, 16]'.",
)
_quiet = click.option("--quiet", is_flag=True, help="Print the result only.")


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit with its code."""
    try:
        code = cli.main(args=arguments, prog_name="headroom", standalone_mode=False)
    except UserError as error:
        click.echo(f"headroom: {error}", err=True)
        code = BAD_INPUT
    except click.ClickException as error:
        click.echo(f"headroom: {' '.join(error.format_message().split())} (see headroom --help)", err=True)
        code = BAD_INPUT
    except (KeyboardInterrupt, click.Abort):
        click.echo("headroom: interrupted", err=True)
        code = INTERRUPTED
    sys.exit(code)


@click.group(no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Hyperparameter search for transformer encoders that never loses a trial to GPU memory."""


@cli.command()
@click.argument("configs", nargs=-1, required=True, metavar="CONFIG...")
@_overrides
@click.option("--trials", type=click.IntRange(min=1), help="Launched trials in all (search.trials).")
@click.option("--address", help="Join a Ray cluster: its address, or auto.")
@click.option("--fresh", is_flag=True, help="Begin a new version beside the study instead of resuming it.")
@_quiet
def search(
    configs: tuple[str, ...],
    overrides: tuple[str, ...],
    trials: int | None,
    address: str | None,
    fresh: bool,
    quiet: bool,
) -> int:
    """Search: run the study of each CONFIG until it holds its launched trials. Run again, it resumes.

    Several run one after the other; one that fails does not stop the next. The exit code is the worst of theirs.
    """
    from tune_app.config import load_config

    extra = () if trials is None else (f"search.trials={trials}",)
    # All are checked before the first is run.
    loaded = [load_config(config, (*overrides, *extra)) for config in configs]

    def run(config: "RunConfig") -> "SearchEnd":
        return _search_one(_as_new_version(config) if fresh else config, address, quiet)

    if len(loaded) == 1:
        return _code_of(run(loaded[0]))
    return _search_several(configs, loaded, run)


def _search_several(
    files: Sequence[str], configs: Sequence["RunConfig"], run: "Callable[[RunConfig], SearchEnd]"
) -> int:
    """One study after the other. One that fails is said, and the next one runs."""
    import traceback

    from tune_app.tables import SearchLine, print_searches

    ran: list[SearchLine] = []
    for file, config in zip(files, configs, strict=True):
        end, problem = None, None
        try:
            end = run(config)
            code = _code_of(end)
        except UserError as error:
            problem, code = str(error), BAD_INPUT
            click.echo(f"headroom: {file}: {problem}", err=True)
        except Exception as error:
            # A defect, which is shown whole; it need not be the next study's.
            traceback.print_exc()
            problem, code = f"{type(error).__name__}: {error}", NOTHING_COMPLETE
        ran.append(SearchLine(config.study.name, code, end, problem))
        if code == INTERRUPTED:
            break
    print_searches(_console(), ran)
    return max(line.code for line in ran)


def _search_one(config: "RunConfig", address: str | None, quiet: bool) -> "SearchEnd":
    from tune_app.experiment import run_search
    from tune_app.tables import print_end

    console = _console()
    end = run_search(config, console=console, quiet=quiet, address=address)
    for warning in end.warnings:
        click.echo(f"headroom: warning: {warning}", err=True)
    print_end(console, end)
    return end


def _code_of(end: "SearchEnd") -> int:
    if end.interrupted:
        return INTERRUPTED
    return DONE if end.status.best else NOTHING_COMPLETE


@cli.command()
@click.argument("study")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
@click.option("--watch", is_flag=True, help="Show it anew every two seconds until Ctrl-C.")
def status(study: str, as_json: bool, watch: bool) -> int:
    """Counts per outcome, the best so far and the time left. STUDY is a name or a run directory."""
    import time

    from tune_app.reporting import study_status
    from tune_app.study import search_is_running
    from tune_app.tables import print_status

    console = _console()
    while True:
        store, config, run_dir = _open_study(study)
        running = search_is_running(run_dir)
        current = study_status(store, is_running=running)
        if as_json:
            click.echo(current.as_json())
        else:
            if watch and console.is_terminal:
                console.clear()
            print_status(console, store, current, running=running, max_concurrent=config.search.max_concurrent)
        if not watch:
            return DONE
        time.sleep(2)


@cli.command()
@click.argument("study")
@click.option("--to", "folder", required=True, type=click.Path(file_okay=False, path_type=Path), metavar="DIR")
@click.option("--trial", "number", type=click.IntRange(min=0), help="Write this trial in place of the best one.")
def export(study: str, folder: Path, number: int | None) -> int:
    """Write best.yaml, which headroom train runs as it is, and leaderboard.csv.

    Of a study with several objectives the best is the one by the first, and front.csv holds all that no other beats.
    """
    from tune_app.export import export_best, export_front, export_leaderboard
    from tune_app.tables import print_leaderboard

    store, config, _ = _open_study(study)
    best = export_best(store, config, folder, number)
    board, front = export_leaderboard(store, folder), export_front(store, folder)
    print_leaderboard(_console(), store)
    what = "best configuration" if number is None else f"trial {number}"
    click.echo(f"{what:<18}  {best}\nevery trial         {board}")
    if front is not None:
        click.echo(f"the front           {front}")
    click.echo(f"train it            headroom train {best}")
    return DONE


@cli.command()
@click.argument("config")
@_overrides
@click.option(
    "--to",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where to save the model; without it, models/<study name> under the working directory.",
)
@_quiet
def train(config: str, overrides: tuple[str, ...], folder: Path | None, quiet: bool) -> int:
    """One training run without a search: trains CONFIG, saves its best epoch as a model folder."""
    from tune_app.config import load_config
    from tune_app.training import run_training

    loaded = load_config(config, overrides)
    end = run_training(loaded, folder or Path("models") / loaded.study.name, console=_console(), quiet=quiet)
    if end.out_of_memory:
        click.echo(
            f"headroom: out of memory: {end.out_of_memory}; take a smaller model.name or tok.max_length, or raise"
            " memory.budget_gib",
            err=True,
        )
        return NOTHING_COMPLETE
    click.echo(f"{end.metric} {end.value:.6f} on validation (epoch {end.best_epoch}), {end.test_value:.6f} on test")
    if end.further:
        click.echo(end.further)
    if loaded.pinned is not None:
        verdict = ": reproduced" if end.value == loaded.pinned.value else ": not the same"
        if loaded.data.folds is not None:
            verdict = f" as the mean of its {loaded.data.folds} folds"
        click.echo(f"trial {loaded.pinned.trial} of {loaded.pinned.study} had {loaded.pinned.value:.6f}{verdict}")
    click.echo(f"saved {end.folder}")
    return DONE


@cli.command()
@click.argument("config")
@_overrides
@click.option("--budget-gib", type=click.FloatRange(min=0, min_open=True), help="Ask about a card with that budget.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Whose kernels; cuda where a budget is given.")
@click.option("--precision", type=click.Choice(["bf16", "fp32"]), help="In place of train.precision.")
@click.option("--model", help="With --batch and --length: the verdict on one configuration.")
@click.option("--batch", type=click.IntRange(min=1), help="Effective batch.")
@click.option("--length", type=click.IntRange(min=8), help="Tokens of an input.")
@click.option("--json", "as_json", is_flag=True, help="JSON, for scripts.")
def memory(
    config: str,
    overrides: tuple[str, ...],
    budget_gib: float | None,
    device: Literal["cpu", "cuda"] | None,
    precision: str | None,
    model: str | None,
    batch: int | None,
    length: int | None,
    as_json: bool,
) -> int:
    """Predict what models need and the largest micro-batch that fits, before anything runs."""
    from tune_app.config import load_config
    from tune_app.planning import print_needs

    print_needs(
        load_config(config, overrides),
        _console(),
        budget_gib=budget_gib,
        device=device,
        precision=precision,
        model=model,
        batch=batch,
        length=length,
        as_json=as_json,
    )
    return DONE


@cli.command()
@click.argument("study")
def dashboard(study: str) -> int:
    """Open the live pages of a study, Optuna Dashboard and MLflow, until Ctrl-C; names Ray's too."""
    from tune_app.dashboard import open_dashboards
    from tune_app.experiment import tracking_uri

    _, config, run_dir = _open_study(study)
    open_dashboards(run_dir, config.study.name, config.study.storage, tracking_uri(config), _console())
    return DONE


@cli.command()
@click.option("--dir", "folder", default="runs", show_default=True, help="Where run directories would lie.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def doctor(folder: str, as_json: bool) -> int:
    """Check machine, GPU, driver, Ray and storage; every finding with its remedy."""
    from tune_app.doctor import as_json as as_json_text
    from tune_app.doctor import diagnose, exit_code, show

    findings = diagnose(folder)
    if as_json:
        click.echo(as_json_text(findings))
    else:
        show(findings, _console())
    return exit_code(findings)


def _console() -> "Console":
    from rich.console import Console

    console = Console()
    # A pipe has no width; 80 columns would fold every row of a table.
    return console if console.is_terminal else Console(width=_PIPE_WIDTH)


def _open_study(study: str) -> tuple["StudyStore", "RunConfig", Path]:
    """A study by its name (under ./runs) or its run directory."""
    from tune_app.experiment import CONFIG_FILE, stored_config
    from tune_app.study import load_study

    given = Path(study)
    run_dir = given if (given / CONFIG_FILE).is_file() else Path("runs") / study
    if not (run_dir / CONFIG_FILE).is_file():
        raise UserError(
            f"{study}: no study of that name in ./runs and no run directory at that path{_near(study)}; a run directory"
            f" holds {CONFIG_FILE}"
        )
    config = stored_config(run_dir)
    return load_study(run_dir, config.study.name, config.study.storage), config, run_dir.resolve()


def _near(study: str) -> str:
    from tune_app.errors import nearest

    known = [folder.name for folder in Path("runs").iterdir() if folder.is_dir()] if Path("runs").is_dir() else []
    return nearest(Path(study).name, known)


def _as_new_version(config: "RunConfig") -> "RunConfig":
    base = config.study.name
    version = 2
    while (Path(config.study.dir) / f"{base}-v{version}").exists():
        version += 1
    if not Path(config.run_dir).exists():
        return config
    return config.model_copy(update={"study": config.study.model_copy(update={"name": f"{base}-v{version}"})})
