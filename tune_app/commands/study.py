"""``headroom study``: listing studies, comparing them with a configuration, and archiving or deleting them."""

import json
import shlex
from pathlib import Path

import click

from tune_app.commands.completion import configurations, studies
from tune_app.commands.terminal import consent, echo, make_console, open_named, overrides_option
from tune_app.errors import without_password
from tune_app.uris import is_store

DIFFERS = 1


@click.group("study", no_args_is_help=False)
def study_group() -> None:
    """List, show and delete studies, or compare them with a configuration."""


@study_group.command("list")
@click.option("--dir", "folder", default="runs", show_default=True, help="Folder of the run directories (study.dir).")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, for scripts.")
def list_studies(folder: str, as_json: bool) -> int:
    """List every study with its counts, its best value and its last change, the newest first."""
    from tune_app.commands.overview import print_studies, studies_in

    found = studies_in(folder)
    if as_json:
        echo(json.dumps([study.as_dict() for study in found]))
    else:
        print_studies(make_console(), found, without_password(folder))
    return 0


@study_group.command("show")
@click.argument("study", shell_complete=studies)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for scripts.")
def show_study(study: str, as_json: bool) -> int:
    """Show a study's data, task, space and counts per outcome. STUDY is a name or a run directory."""
    from tune_app.commands.overview import overview, print_study

    opened = open_named(study)
    shown = overview(opened.store, opened.config, opened.run_dir)
    if as_json:
        record = opened.store.record.as_dict()
        echo(json.dumps({**shown.as_dict(), "version": opened.version, "record": record}))
    else:
        print_study(make_console(), opened.store, shown, opened.config, opened.version)
    return 0


@study_group.command("diff")
@click.argument("study", shell_complete=studies)
@click.argument("config", shell_complete=configurations)
@overrides_option
def diff_study(study: str, config: str, overrides: tuple[str, ...]) -> int:
    """Show the differences between STUDY and CONFIG. The exit code is 0 without any, 1 with some.

    A name means the version that a search of CONFIG would resume, or else the newest one.
    """
    from tune_app.config import load_config
    from tune_app.screening.preconditions import study_record, with_classes_of_data
    from tune_app.study.differences import print_differences
    from tune_app.study.named import is_name
    from tune_app.study.versions import matching, with_rung_of

    opened = open_named(study)
    store = opened.store
    wanted = with_classes_of_data(load_config(config, overrides))
    record = study_record(wanted)
    if is_name(study):
        # Prefer the version with which a search of the configuration would go on.
        store = matching(opened.config.named(store.version_of), wanted, record) or store
    differences = store.record.differences(with_rung_of(store, wanted, record))
    if not differences:
        echo(f"study {store.name} and {config} do not differ")
        return 0
    print_differences(make_console(), store.name, differences)
    return DIFFERS


@study_group.command("fork")
@click.argument("study", shell_complete=studies)
@click.argument("config", shell_complete=configurations)
@overrides_option
def fork_study(study: str, config: str, overrides: tuple[str, ...]) -> int:
    """Start the study of CONFIG with every trial of STUDY that fits.

    Its name is the one in CONFIG, or the next version of that. headroom search CONFIG resumes it.
    """
    from tune_app.config import load_config
    from tune_app.forking import fork

    opened = open_named(study)
    forked, carried_line = fork(opened.store, opened.run_dir, load_config(config, overrides))
    options = "".join(f" -s {shlex.quote(without_password(override))}" for override in overrides)
    echo(carried_line or f"nothing to carry over from {opened.name}")
    echo(f"started             {without_password(forked.location)}")
    echo(f"resume it           headroom search {shlex.quote(config)}{options}")
    return 0


@study_group.command("archive")
@click.argument("study", shell_complete=studies)
def archive_study(study: str) -> int:
    """Rename STUDY with today's date, so that its own name is free."""
    from tune_app.study.versions import archive

    opened = open_named(study, exact=True)
    config, target = opened.config, archive(opened.run_dir)
    location = without_password(config.named(target.name).location) if is_store(config.study.dir) else target
    echo(f"study {opened.name} was archived as {location}")
    return 0


@study_group.command("delete")
@click.argument("study", shell_complete=studies)
@click.option("--yes", is_flag=True, help="Delete it without asking.")
def delete_study(study: str, yes: bool) -> int:
    """Delete STUDY and its run directory, after asking. Runs in MLflow stay."""
    from tune_app.study.unfinished import remove_unfinished
    from tune_app.study.versions import check_idle, delete, question

    if (unfinished := _unfinished(study)) is not None:
        consent(yes, f"Delete the unfinished study {unfinished.name}, in {unfinished}?")
        remove_unfinished(unfinished)
        echo(f"the unfinished study {unfinished.name} was deleted")
        return 0
    opened = open_named(study, exact=True)
    store, run_dir = opened.store, opened.run_dir
    check_idle(run_dir)
    consent(yes, question(store, without_password(opened.config.location)))
    left = delete(store, run_dir)
    echo(f"study {store.name} was deleted")
    if left:
        echo(f"{run_dir} stays: {', '.join(path.name for path in left)} in it is not headroom's")
    return 0


def _unfinished(study: str) -> Path | None:
    """Return the run directory, given by path or name, of a study whose creation was interrupted; None for others."""
    from tune_app.study.named import RUNS
    from tune_app.study.unfinished import what_is_missing

    places = [] if is_store(study) else [Path(study), RUNS / study]
    return next((location.absolute() for location in places if what_is_missing(location) is not None), None)
