"""Command line. Imports are lazy: ``--help`` answers at once, and ``status`` never waits for Ray or torch."""

import functools
import json
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from tune_app.commands.completion import configurations, files, print_completion, studies
from tune_app.commands.config import config_group
from tune_app.commands.study import study_group
from tune_app.commands.terminal import (
    agree_to_hours,
    consent,
    echo,
    make_console,
    open_named,
    overrides_option,
    quiet_option,
    warn,
)
from tune_app.errors import UserError, foreign_refused, one_line, storage_failure, without_password
from tune_app.version import VERSION

if TYPE_CHECKING:
    from tune_app.config import RunConfig
    from tune_app.experiment import SearchEnd

_RANKINGS = {"search": "the search", "choice": "its number"}

DONE, NOTHING_COMPLETE, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit with its code."""
    try:
        with foreign_refused():
            code = cli.main(args=arguments, prog_name="headroom", standalone_mode=False)
    except UserError as error:
        echo(f"headroom: {error}", err=True)
        code = BAD_INPUT
    except click.ClickException as error:
        echo(f"headroom: {one_line(' '.join(error.format_message().split()))} (see headroom --help)", err=True)
        code = BAD_INPUT
    except (KeyboardInterrupt, click.Abort):
        echo("headroom: interrupted", err=True)
        code = INTERRUPTED
    except Exception as error:
        failure = storage_failure(error)
        echo(_defect(error) if failure is None else f"headroom: {failure}", err=True)
        code = NOTHING_COMPLETE
    sys.exit(code)


def _defect(error: Exception) -> str:
    """Return the whole traceback, without passwords, of an error that no input explains."""
    return without_password("".join(traceback.format_exception(error)).rstrip())


@click.group(no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION)
def cli() -> None:
    """Hyperparameter search for transformer encoders that never loses a trial to GPU memory."""


@cli.command()
@click.argument("data", shell_complete=files)
@click.option(
    "--to",
    "target",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the configuration to this file instead of the standard output.",
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@click.option("--text", metavar="COLUMN", help="Column of the texts.")
@click.option("--criterion", metavar="COLUMN", help="Column of the criteria, or of the second text of a pair.")
@click.option("--label", metavar="COLUMN", help="Column of the classes.")
@click.option("--group", metavar="COLUMN", help="Column that says which rows belong together, such as a post's id.")
@click.option("--task", help="Task to draft for, instead of the one that the data allows.")
@quiet_option
def init(
    data: str,
    target: Path | None,
    force: bool,
    text: str | None,
    criterion: str | None,
    label: str | None,
    group: str | None,
    task: str | None,
    quiet: bool,
) -> int:
    """Write a configuration for DATA (CSV, JSONL or Parquet), with the reason for each setting, which search runs.

    What the columns hold is guessed from their names, types and content. It asks nothing.
    """
    from tune_app.commands.drafting import print_draft

    guesses = {"text": text, "criterion": criterion, "label": label, "group": group, "task": task}
    print_draft(data, target, guesses, force=force, quiet=quiet)
    return DONE


@cli.command()
@click.argument("configs", nargs=-1, required=True, metavar="CONFIG...", shell_complete=configurations)
@overrides_option
@click.option("--trials", type=click.IntRange(min=1), help="Launched trials in all (search.trials).")
@click.option("--address", help="Join a Ray cluster: its address, or auto.")
@click.option("--fresh", is_flag=True, help="Start a new version beside the study instead of resuming it.")
@click.option("--yes", is_flag=True, help="Agree to long searches, and to the deletion of study.on_change=delete.")
@quiet_option
def search(
    configs: tuple[str, ...],
    overrides: tuple[str, ...],
    trials: int | None,
    address: str | None,
    fresh: bool,
    yes: bool,
    quiet: bool,
) -> int:
    """Search for the best configuration: run the study of each CONFIG until it holds search.trials launched trials.

    The same command resumes a study. If its space or data changed, a new version starts with every result that still
    fits (study.on_change).

    Several studies run one after the other, even if one fails. The exit code is the worst of theirs.
    """
    from tune_app.config import load_config

    extra = () if trials is None else (f"search.trials={trials}",)
    # Check all configurations before running the first.
    loaded = [load_config(config, (*overrides, *extra)) for config in configs]

    def run(config: "RunConfig") -> "SearchEnd":
        return _search_one(config, address=address, fresh=fresh, yes=yes, quiet=quiet)

    if len(loaded) == 1:
        return _code_of(run(loaded[0]))
    return _search_several(configs, loaded, run)


def _search_several(
    files: Sequence[str], configs: Sequence["RunConfig"], run: "Callable[[RunConfig], SearchEnd]"
) -> int:
    """Run one study after the other. If one fails, report it and run the next."""
    from tune_app.commands.tables import SearchLine, print_searches

    ran: list[SearchLine] = []
    for file, config in zip(files, configs, strict=True):
        end, problem = None, None
        try:
            end = run(config)
            code = _code_of(end)
        except UserError as error:
            problem, code = str(error), BAD_INPUT
            echo(f"headroom: {file}: {problem}", err=True)
        except Exception as error:
            code, problem = NOTHING_COMPLETE, storage_failure(error)
            if problem is None:
                # The next study need not have the same defect.
                echo(_defect(error), err=True)
                problem = one_line(f"{type(error).__name__}: {error}")
            else:
                echo(f"headroom: {file}: {problem}", err=True)
        ran.append(SearchLine(end.status.study if end else config.study.name, code, end, problem))
        if code == INTERRUPTED:
            break
    print_searches(make_console(), ran)
    return max(line.code for line in ran)


def _search_one(config: "RunConfig", *, address: str | None, fresh: bool, yes: bool, quiet: bool) -> "SearchEnd":
    from tune_app import api
    from tune_app.commands.tables import print_end

    console = make_console()
    study = api.search(
        config,
        address=address,
        fresh=fresh,
        quiet=quiet,
        consent=partial(consent, yes),
        agree=partial(agree_to_hours, yes),
        console=console,
    )
    end = study.end
    assert end is not None
    for warning in end.warnings:
        echo(f"headroom: warning: {warning}", err=True)
    print_end(console, end)
    return end


def _code_of(end: "SearchEnd") -> int:
    if end.interrupted:
        return INTERRUPTED
    return DONE if end.status.best and not end.breakage else NOTHING_COMPLETE


@cli.command()
@click.argument("study", shell_complete=studies)
@click.option("--all", "every", is_flag=True, help="List every trial, not only the best.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with every trial, for scripts.")
@click.option("--watch", is_flag=True, help="Follow the search on one screen until Ctrl-C.")
def status(study: str, every: bool, as_json: bool, watch: bool) -> int:
    """Show counts per outcome, the best trial so far and the time left. STUDY is a name, a run directory or a URI.

    A name means the newest version of the study.
    """
    import time

    from tune_app.commands.endings import endings_line
    from tune_app.commands.overview import overview, status_dict
    from tune_app.commands.tables import print_status, print_trials
    from tune_app.commands.watch import WATCH_S, watch_study
    from tune_app.study.confirmation import confirmation_line
    from tune_app.study.remaining import Course

    console = make_console()
    if watch and console.is_terminal and not as_json and not every:
        return watch_study(console, study)
    # The same warning is printed once, however often the study is read.
    warn_once = functools.cache(warn)
    # Computed only once, because it opens every later version.
    version: str | None = None
    while True:
        loaded = open_named(study, say=warn_once)
        store, config, run_dir = loaded.store, loaded.config, loaded.run_dir
        shown = overview(store, config, run_dir)
        version = loaded.version if version is None else version
        if as_json:
            echo(json.dumps(status_dict(store, shown, config, version)))
        else:
            if watch and console.is_terminal:
                console.clear()
            running = shown.is_running
            print_status(console, store, shown.status, running=running, course=Course.of(config), version=version)
            if ending := endings_line(store, config, running=running):
                console.say(ending)
            if shown.confirmation is not None:
                console.say(confirmation_line(shown.confirmation))
            if every:
                print_trials(console, store, running=running)
            console.say(f"run directory {run_dir}")
        if not watch:
            return DONE
        time.sleep(WATCH_S)


@cli.command()
@click.argument("study", shell_complete=studies)
@click.option("--top", type=int, default=5, show_default=True, help="Number of leaders to retrain.")
@click.option("--seeds", type=int, help="Trainings of each candidate, each on a split of its own.  [default: 5]")
@click.option("--folds", type=int, help="Train on this many folds instead of on seeds.")
@click.option(
    "--max-hours",
    type=float,
    help="Begin no trainings that would end later; until then, add seeds while the winner is not clear.",
)
@click.option("--address", help="Join a Ray cluster: its address, or auto.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, the content of confirm.json.")
@quiet_option
def confirm(
    study: str,
    top: int,
    seeds: int | None,
    folds: int | None,
    max_hours: float | None,
    address: str | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Retrain the leaders and the recommended configuration on fresh seeds, then open the test part once.

    The result is confirm.json in the run directory; export takes the confirmed winner. The same command resumes an
    interrupted confirmation. Progress goes to the standard error.
    """
    from tune_app import api
    from tune_app.commands.confirmation import print_confirmation
    from tune_app.console import Console

    if seeds is not None and folds is not None:
        raise UserError(f"--folds: {folds} and --seeds {seeds} exclude each other; give one of them")
    end = api.confirm(
        open_named(study),
        top=top,
        seeds=5 if seeds is None else seeds,
        folds=folds,
        max_hours=max_hours,
        address=address,
        quiet=quiet,
        console=Console(stderr=True),
    )
    if end.confirmation is not None:
        if as_json:
            echo(json.dumps(end.confirmation.as_dict()))
        else:
            print_confirmation(make_console(), end.confirmation)
    if end.why:
        echo(f"headroom: {end.why}", err=True)
    if end.interrupted:
        return INTERRUPTED
    return DONE if end.confirmation is not None and end.breakage is None else NOTHING_COMPLETE


@cli.command()
@click.argument("study", shell_complete=studies)
@click.option("--to", "folder", required=True, type=click.Path(file_okay=False, path_type=Path), metavar="DIR")
@click.option("--trial", "number", type=click.IntRange(min=0), help="Export this trial instead of the best one.")
@click.option("--model", is_flag=True, help="Add the model folder DIR/model.")
@click.option("--onnx", is_flag=True, help="With --model: add model.onnx to it, for any batch size and length.")
@quiet_option
def export(study: str, folder: Path, number: int | None, model: bool, onnx: bool, quiet: bool) -> int:
    """Write best.yaml, which headroom train runs as it is, and leaderboard.csv.

    With --model, the model folder comes from the checkpoint that the search kept of the trial. If it kept none, the
    configuration is trained again.

    best.yaml is the winner of headroom confirm or, without a confirmation, the best of the search. With several
    objectives, the first one decides the best trial, and front.csv holds the trials that no other beats.
    """
    from tune_app.commands.tables import print_leaderboard
    from tune_app.study.confirmation import ranking_line
    from tune_app.study.lines import study_line

    loaded = open_named(study)
    files = loaded.export(folder, trial=number, model=model, onnx=onnx, quiet=quiet)
    echo(study_line(loaded.name, loaded.version))
    print_leaderboard(make_console(), loaded.store)
    if number is None:
        best = loaded.best
        echo(ranking_line(loaded.confirmation, loaded.name, best.number if best else None))
    what = "best configuration" if number is None else f"trial {number}"
    echo(f"{what:<18}  {files.best}\nevery trial         {files.leaderboard}")
    if files.front is not None:
        echo(f"the front           {files.front}")
    if files.model is None or files.training is None:
        echo(f"train it            headroom train {shlex.quote(str(files.best))}")
        return DONE
    for line in files.training.score_lines:
        echo(line)
    echo(f"model               {files.model}")
    if files.training.logged is not None:
        echo(files.training.logged)
    return DONE


@cli.command()
@click.argument("study", shell_complete=studies)
@click.option(
    "--to",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="File to write; without it, report.html in the run directory.",
)
def report(study: str, file: Path | None) -> int:
    """Write one HTML page on what to use, whether to trust it, what mattered and what went wrong.

    The page needs no network. It can be written while the search runs.
    """
    from tune_app.study.lines import study_line

    loaded = open_named(study)
    path = loaded.report(file)
    echo(study_line(loaded.name, loaded.version))
    echo(f"report  {path}")
    return DONE


@cli.command()
@click.argument("config", shell_complete=configurations)
@overrides_option
@click.option(
    "--to",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where to save the model; without it, models/<study name> under the working directory.",
)
@click.option("--onnx", is_flag=True, help="Add model.onnx to the folder, for any batch size and length.")
@quiet_option
def train(config: str, overrides: tuple[str, ...], folder: Path | None, onnx: bool, quiet: bool) -> int:
    """Train CONFIG once, without a search, and save its best epoch as a model folder."""
    from tune_app import api

    loaded = api.load_config(config, overrides)
    end = api.train(loaded, folder, onnx=onnx, quiet=quiet, console=make_console())
    if end.out_of_memory:
        echo(
            f"headroom: out of memory: {end.out_of_memory}; use a smaller model.name or tok.max_length, or raise"
            " memory.budget_gib",
            err=True,
        )
        return NOTHING_COMPLETE
    for line in end.score_lines:
        echo(line)
    if loaded.pinned is not None:
        verdict = ": reproduced" if end.reached == loaded.pinned.value else ": not reproduced"
        if loaded.data.folds is not None:
            verdict = f" as the mean of its {loaded.data.folds} folds"
        echo(f"trial {loaded.pinned.trial} of {loaded.pinned.study} had {loaded.pinned.value:.6f}{verdict}")
        if loaded.pinned.expected is not None:
            echo(f"it won the confirmation, by which {loaded.pinned.expected:.4f} is to be expected on unseen rows")
        else:
            echo(f"it was chosen by {_RANKINGS.get(loaded.pinned.ranking, loaded.pinned.ranking)}, and not confirmed")
    echo(f"saved {end.folder}")
    if end.logged is not None:
        echo(end.logged)
    return DONE


@cli.command()
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL_DIR")
@click.argument("source", metavar="INPUT", shell_complete=files)
@click.option(
    "--out",
    metavar="FILE",
    help="File to write: .csv, .csv.gz, .jsonl or .parquet. Without it, CSV on the standard output.",
)
@click.option(
    "--columns",
    metavar="ROLE=COLUMN",
    multiple=True,
    help="Column of the role text or criterion, where it is not the training data's: --columns text=post. Repeatable.",
)
@click.option("--any-criterion", is_flag=True, help="Predict criteria that the model was not trained on, too.")
@click.option("--skip-bad", is_flag=True, help="Keep rows that cannot be read, with the reason in a column error.")
@click.option("--resume", is_flag=True, help="Go on with the FILE of a run that was cut off.")
@click.option(
    "--budget-gib", type=click.FloatRange(0, 1_000_000, min_open=True), help="Memory that predictions may hold."
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Device to use; without it, a CUDA card if any.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "bf16", "fp32"]),
    default="auto",
    show_default=True,
    help="auto is bf16 on a card that has units for it, else fp32.",
)
@quiet_option
def predict(
    model: Path,
    source: str,
    out: str | None,
    columns: tuple[str, ...],
    any_criterion: bool,
    skip_bad: bool,
    resume: bool,
    budget_gib: float | None,
    device: Literal["cpu", "cuda"] | None,
    precision: Literal["auto", "bf16", "fp32"],
    quiet: bool,
) -> int:
    """Write the rows of INPUT with the predictions of the model in MODEL_DIR beside them.

    INPUT is a CSV file with any delimiter, JSONL or Parquet, gzipped or not, of any size; - is the standard input. The
    columns of INPUT stay as they are. FILE appears whole at the end; what a run that was cut off had written is where
    --resume finds it.
    """
    from tune_app.commands.prediction import print_predictions

    stopped = print_predictions(
        model,
        source,
        out,
        columns,
        any_criterion=any_criterion,
        skip_bad=skip_bad,
        resume=resume,
        budget_gib=budget_gib,
        device=device,
        precision=precision,
        quiet=quiet,
    )
    return INTERRUPTED if stopped else DONE


@cli.command()
@click.argument("config", shell_complete=configurations)
@overrides_option
@click.option(
    "--budget-gib", type=click.FloatRange(0, 1_000_000, min_open=True), help="Memory budget of the card to predict for."
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Device to predict for; cuda if a budget is given.")
@click.option("--precision", type=click.Choice(["bf16", "fp32"]), help="Precision to use instead of train.precision.")
@click.option("--model", help="With --batch and --length: print the verdict on one configuration.")
@click.option("--batch", type=click.IntRange(1, 2**28), help="Effective batch size.")
@click.option("--length", type=click.IntRange(8, 8192), help="Input length in tokens.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
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
    """Predict the memory of each model and the largest micro-batch that fits, before anything runs."""
    from tune_app.commands.planning import print_needs
    from tune_app.config import load_config
    from tune_app.estimates import Target

    print_needs(
        load_config(config, overrides),
        make_console(),
        Target(device, budget_gib, precision),
        model=model,
        batch=batch,
        length=length,
        as_json=as_json,
    )
    return DONE


@cli.command()
@click.argument("config", shell_complete=configurations)
@overrides_option
@click.option(
    "--gpu-gib", type=click.FloatRange(0, 1_000_000, min_open=True), help="Plan for a card with this memory instead."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for scripts.")
def plan(config: str, overrides: tuple[str, ...], gpu_gib: float | None, as_json: bool) -> int:
    """Plan the search of CONFIG before anything runs: space, memory, packing, hours, disk and warnings.

    Models that this machine has not trained yet are timed for some seconds each.
    """
    from tune_app.commands.forecast import print_plan
    from tune_app.config import load_config

    print_plan(load_config(config, overrides), make_console(), gpu_gib=gpu_gib, as_json=as_json)
    return DONE


@cli.command()
@click.argument("study", shell_complete=studies)
def dashboard(study: str) -> int:
    """Open Optuna Dashboard and MLflow on a study until Ctrl-C, and print the address of Ray's dashboard, if any."""
    from tune_app.commands.dashboard import followed, open_dashboards
    from tune_app.study.lines import study_line
    from tune_app.study.run_dir import tracking_uri

    opened = open_named(study)
    store, config, run_dir = opened.store, opened.config, opened.run_dir
    console = make_console()
    console.say(study_line(store.name, opened.version))
    with followed(store, config, run_dir, console):
        open_dashboards(run_dir, config.study.name, config.study.storage, tracking_uri(config), console)
    return DONE


@cli.command()
@click.option("--dir", "folder", default="runs", show_default=True, help="Folder for run directories (study.dir).")
@click.option("--address", help="Also check every node of this Ray cluster: its address, or auto.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for scripts.")
def doctor(folder: str, address: str | None, as_json: bool) -> int:
    """Check machine, GPU, driver, Ray and storage, and print a remedy for every problem."""
    from tune_app.commands.doctor import as_json as as_json_text
    from tune_app.commands.doctor import diagnose, diagnose_cluster, exit_code, show

    findings = diagnose(folder)
    if address is not None:
        findings += diagnose_cluster(folder, address)
    if as_json:
        echo(as_json_text(findings))
    else:
        show(findings, make_console())
    return exit_code(findings)


cli.add_command(study_group)
cli.add_command(config_group)
cli.add_command(print_completion)
