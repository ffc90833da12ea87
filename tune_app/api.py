"""Python interface: what a notebook imports from ``tune_app``, and what the commands are thin shells over.

Nothing heavy is imported before it is needed: reading a study imports neither torch nor Ray.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tune_app.config import RunConfig, load_config
from tune_app.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from trainables.planning.needs import Verdict
    from tune_app.confirmation.run import ConfirmationEnd
    from tune_app.console import Console
    from tune_app.experiment import SearchEnd
    from tune_app.forecast.plan import Plan
    from tune_app.prediction.files import Predicted
    from tune_app.prediction.model import Model
    from tune_app.study.confirmation import Confirmation
    from tune_app.study.named import NamedStudy
    from tune_app.study.reporting import Best, StudyStatus
    from tune_app.training import TrainEnd

__all__ = [
    "Exported",
    "Study",
    "UserError",
    "confirm",
    "estimate_memory",
    "init",
    "load_config",
    "load_model",
    "load_study",
    "plan",
    "predict_file",
    "search",
    "train",
]


@dataclass(frozen=True)
class Exported:
    """Files of an export.

    Attributes:
        best: complete configuration of the exported trial, which ``train`` runs as it is.
        leaderboard: CSV file of every trial, the best first.
        front: CSV file of the trials that no other beats; None with one objective.
        model: model folder; None if none was asked for.
        training: scores of the model; None without one.
    """

    best: Path
    leaderboard: Path
    front: Path | None
    model: Path | None = None
    training: "TrainEnd | None" = None


class Study:
    """Study on disk or in a store, read anew at every call. Get one from ``search`` or ``load_study``.

    Attributes:
        store: Optuna study with everything that it records.
        config: configuration of the study's latest search, as resolved.
        run_dir: folder of the study's files on this machine.
        end: end of the search that returned this study; None if the study was loaded.
        warnings: lines on what the configuration file says differently from the study's own record.
    """

    def __init__(self, named: "NamedStudy", end: "SearchEnd | None" = None) -> None:
        self.store = named.store
        self.config = named.config
        self.run_dir = named.run_dir
        self.warnings = named.warnings
        self.end = end

    def __repr__(self) -> str:
        status = self.status()
        best = f", best {status.metric} {status.best.value:.4f}" if status.best else ""
        return f"<Study {self.name}: {status.launched} of {status.target} launched{best}>"

    @property
    def name(self) -> str:
        """Name of the study; a later version has a name of its own."""
        return self.store.name

    @cached_property
    def version(self) -> str:
        """Line on the version of the study and on later versions; empty if it is the only one."""
        from tune_app.study.versions import version_text

        return version_text(self.store, self.config)

    @property
    def best(self) -> "Best | None":
        """The best complete trial by the first objective: ``number``, ``value`` and ``params``; None without one."""
        return self.status().best

    @property
    def confirmation(self) -> "Confirmation | None":
        """Result of the study's confirmation: ``winner``, ``expected_value``, ``test`` and more; None without one.

        Raises:
            UserError: the file ``confirm.json`` is damaged.
        """
        from tune_app.study.confirmation import read_confirmation

        return read_confirmation(self.run_dir)

    def status(self) -> "StudyStatus":
        """Return counts per outcome and the best trials; ``as_dict()`` of it is ``headroom status --json``."""
        from tune_app.study.remote import is_running
        from tune_app.study.reporting import study_status

        return study_status(self.store, is_running=is_running(self.config, self.run_dir))

    def trials_dataframe(self) -> "pd.DataFrame":
        """Return one row per trial, the best first: the columns of ``leaderboard.csv``."""
        import pandas as pd

        from tune_app.study.export import leaderboard_table

        columns, rows = leaderboard_table(self.store)
        return pd.DataFrame(rows, columns=columns)

    def export(
        self,
        folder: str | Path,
        *,
        trial: int | None = None,
        model: bool = False,
        onnx: bool = False,
        quiet: bool = False,
        console: "Console | None" = None,
    ) -> Exported:
        """Write the best configuration and the leaderboard, and with ``model`` the model folder.

        Args:
            folder: made if it is missing; files of an earlier export are replaced.
            trial: number of the trial to export; None takes the winner of the confirmation or, without one, the best of
                the search.
            model: save the trial's best checkpoint as a model folder, or train again if none was kept.
            onnx: write the model as an ONNX file, too; needs the extra ``onnx``.
            quiet: show no progress of the model.
            console: where to show it; None means the standard error.

        Raises:
            UserError: there is no such complete trial, the folder cannot be written, or the model cannot be saved or
                trained.
        """
        from tune_app.study.export import export_best, export_front, export_leaderboard

        if onnx and not model:
            raise UserError("--onnx: is written beside a model; give --model, too")
        if onnx:
            from tune_app.training import check_onnx

            check_onnx()
        folder = Path(folder)
        exported = Exported(
            export_best(self.store, self.config, folder, trial, self.confirmation),
            export_leaderboard(self.store, folder),
            export_front(self.store, folder),
        )
        if not model:
            return exported

        from tune_app.console import Console
        from tune_app.model_folder import export_model

        console = console or Console(stderr=True)
        end = export_model(
            self.store, self.config, exported.best, self.confirmation, console=console, quiet=quiet, onnx=onnx
        )
        end = _logged(self.config, end, console, quiet=quiet)
        return replace(exported, model=end.folder, training=end)

    def report(self, file: str | Path | None = None) -> Path:
        """Write the report of the study, one HTML file that needs no network, and return its path.

        Args:
            file: file to write; None means ``report.html`` in the run directory, and beside the study in its store.

        Raises:
            UserError: the file cannot be written.
        """
        from tune_app.report.page import write_report
        from tune_app.study.remote import StoredStudies
        from tune_app.study.run_dir import REPORT_FILE
        from tune_app.uris import is_store

        target = self.run_dir / REPORT_FILE if file is None else Path(file)
        write_report(self.store, self.config, self.run_dir, target)
        if file is None and is_store(self.config.study.dir):
            StoredStudies(self.config.study.dir).add(self.run_dir.name, target)
        return target


def init(
    data: str | Path,
    *,
    text: str | None = None,
    criterion: str | None = None,
    label: str | None = None,
    group: str | None = None,
    task: str | None = None,
    doing: Callable[[str], None] = lambda _: None,
) -> str:
    """Return a complete configuration for a data file as YAML, with the reason for each setting above it.

    ``headroom search`` runs the text as it is. A column that is not named is guessed from its name, type
    and content.

    Args:
        data: CSV, JSONL or Parquet file, or ``demo`` for the built-in data.
        text: column of the texts.
        criterion: column of the criteria, or of the second text of a pair.
        label: column of the classes.
        group: column that says which rows belong together.
        task: name of the task; None takes the one that the data allows.
        doing: called with each step of the work, which takes a minute.

    Raises:
        UserError: the file cannot be used, or the role of a column cannot be told.
    """
    from tune_app.drafting.draft import draft
    from tune_app.folders import check_own_folders

    check_own_folders()
    named = {"text": text, "criterion": criterion, "label": label, "group_id": group}
    return draft(str(data), {role: column for role, column in named.items() if column is not None}, doing, task=task)


def load_study(study: str | Path) -> Study:
    """Open a study by its name (under ``runs``), its run directory or its URI.

    A name means the newest version of the study.

    Raises:
        UserError: there is no such study.
    """
    from tune_app.study.named import open_study

    return Study(open_study(study))


def plan(
    config: RunConfig,
    *,
    gpu_gib: float | None = None,
    doing: Callable[[str], None] = lambda what: None,
) -> "Plan":
    """Plan a search: its space, memory, packing, hours, disk and warnings. Nothing of the search is started or written.

    Models that this machine has not trained yet are timed for some seconds each.

    Args:
        gpu_gib: memory of another machine's card in GiB; None plans for this machine.
        doing: called with each activity, for a person who waits.

    Raises:
        UserError: the configuration, the data or the device does not allow the search.
    """
    from tune_app.forecast.plan import make_plan

    if gpu_gib is not None and not 0 < gpu_gib < float("inf"):
        raise UserError(f"gpu_gib: {gpu_gib}: give the memory of a card in GiB, e.g. 24")
    return make_plan(config, gpu_gib=gpu_gib, doing=doing)


def search(
    config: RunConfig,
    *,
    trials: int | None = None,
    address: str | None = None,
    fresh: bool = False,
    quiet: bool = False,
    consent: Callable[[str], None] | None = None,
    agree: Callable[[str], None] | None = None,
    console: "Console | None" = None,
) -> Study:
    """Run the study of a configuration until it holds its launched trials, or resume it if it exists.

    ``Study.end`` says how the search ended; an interrupted one resumes with the same call.

    Args:
        trials: launched trials that the study shall hold; None leaves ``search.trials``.
        address: address of a Ray cluster to join; None starts Ray on this machine, or joins the job's cluster.
        fresh: begin a new version beside the study instead of resuming it.
        quiet: show no progress.
        consent: asks whether to delete what ``study.on_change: delete`` would; raises ``UserError`` to refuse. None
            deletes nothing.
        agree: asks whether to begin a new search that is planned to exceed ``search.max_hours`` or a day; raises
            ``UserError`` to refuse. None begins it.
        console: where to show progress; None means the standard error.

    Raises:
        UserError: the configuration, the data or the storage does not allow the search.
    """
    from tune_app.console import Console
    from tune_app.experiment import run_search
    from tune_app.study.named import open_study

    if trials is not None:
        config = load_config(config.as_dict(), {"search.trials": trials})
    console = console or Console(stderr=True)
    end = run_search(config, console=console, quiet=quiet, address=address, fresh=fresh, consent=consent, agree=agree)
    return Study(open_study(end.run_dir), end)


def confirm(
    study: "Study | str | Path",
    *,
    top: int = 5,
    seeds: int = 5,
    folds: int | None = None,
    max_hours: float | None = None,
    address: str | None = None,
    quiet: bool = False,
    console: "Console | None" = None,
) -> "ConfirmationEnd":
    """Retrain a study's leaders and its recommended configuration on fresh seeds, and open the test part once.

    The same call resumes an interrupted confirmation, and ``Study.confirmation`` reads its result later.

    Args:
        study: study, or its name, run directory or URI.
        top: number of leaders.
        seeds: trainings of each candidate that stays in the race.
        folds: train on this many folds instead of on seeds; None draws a split for every seed.
        max_hours: hours after which no round of trainings begins. Until then seeds are added while the winner is not
            clear; None adds none.
        address: address of a Ray cluster to join; None starts Ray on this machine, or joins the job's cluster.
        quiet: show no progress.
        console: where to show progress; None means the standard error.

    Returns:
        The winner's number as ``winner``, the whole result as ``confirmation``, and the reason if it was cut off.

    Raises:
        UserError: the study holds no complete trial or has several objectives, its data changed, or the machine or the
            storage does not allow it.
    """
    from tune_app.confirmation.run import Request, run_confirmation
    from tune_app.console import Console
    from tune_app.study.named import NamedStudy, open_study

    if isinstance(study, Study):
        named = NamedStudy(study.store, study.config, study.run_dir, study.warnings)
    else:
        named = open_study(study)
    request = Request(top, seeds, folds, max_hours)
    return run_confirmation(named, request, console=console or Console(stderr=True), quiet=quiet, address=address)


def train(
    config: RunConfig,
    to: str | Path | None = None,
    *,
    onnx: bool = False,
    quiet: bool = False,
    console: "Console | None" = None,
) -> "TrainEnd":
    """Train one configuration without a search, and save its best epoch as a model folder.

    Args:
        config: configuration without a space, such as an exported ``best.yaml``.
        to: new folder for the model; None means ``models/<study name>`` under the working directory.
        onnx: write the model as an ONNX file, too; needs the extra ``onnx``.
        quiet: show no progress.
        console: where to show progress; None means the standard error.

    Returns:
        Folder, scores and best epoch. ``out_of_memory`` gives the reason if not even one sample at a time fitted.

    Raises:
        UserError: the configuration holds a space or cannot run, or the folder is not empty.
    """
    from tune_app.console import Console
    from tune_app.training import run_training

    folder = Path(to) if to is not None else Path("models") / config.study.name
    console = console or Console(stderr=True)
    end = run_training(config, folder, console=console, quiet=quiet, onnx=onnx)
    return end if end.out_of_memory else _logged(config, end, console, quiet=quiet)


def _logged(config: RunConfig, end: "TrainEnd", console: "Console", *, quiet: bool) -> "TrainEnd":
    """Log the saved model to MLflow unless tracking is disabled, and return the end with a line on it."""
    from tune_app.prediction.logged import log_model_folder
    from tune_app.voice import Voice

    with Voice(console, quiet=quiet) as voice:
        voice.doing("logging the model to MLflow")
        return replace(end, logged=log_model_folder(config, end.folder))


def load_model(
    folder: str | Path,
    *,
    device: Literal["cpu", "cuda"] | None = None,
    budget_gib: float | None = None,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
) -> "Model":
    """Load a saved model, whose ``predict`` takes a frame or dictionaries.

    Args:
        folder: model folder that ``train`` saved.
        device: None means the first CUDA card, or the CPU without one.
        budget_gib: the most memory that predictions may hold; None sets no limit.
        precision: ``auto`` means bf16 on a card that has units for it, else fp32.

    Raises:
        UserError: the folder holds no saved model, or there is no such device.
    """
    from tune_app.prediction.model import Model

    return Model(folder, device=device, budget_gib=budget_gib, precision=precision)


def predict_file(
    folder: str | Path,
    source: str | Path,
    out: str | Path | None,
    *,
    columns: Mapping[str, str] | None = None,
    any_criterion: bool = False,
    skip_bad: bool = False,
    resume: bool = False,
    device: Literal["cpu", "cuda"] | None = None,
    budget_gib: float | None = None,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    quiet: bool = False,
    console: "Console | None" = None,
) -> "Predicted":
    """Write the rows and columns of a file, of any size, with a saved model's predictions beside them.

    Args:
        folder: model folder that ``train`` saved.
        source: CSV, JSONL or Parquet file; ``-`` means the standard input.
        out: file to write, which appears whole at the end; its ending names the format. None writes CSV to the standard
            output.
        columns: role (``text``, ``criterion``) → column, where it is not the training data's.
        any_criterion: predict rows with criteria that the model was not trained on, too.
        skip_bad: keep rows that cannot be read, with the reason in the column ``error`` instead of a prediction.
        resume: continue the output of a run that was cut off.
        device, budget_gib, precision: see ``load_model``.
        quiet: show no progress.
        console: where to show progress; None means the standard error.

    Returns:
        Numbers of rows.

    Raises:
        UserError: the model, the input, a row or the output cannot be used, or the memory does not suffice.
    """
    from trainables.prediction.request import Request, Resources
    from tune_app.console import Console
    from tune_app.prediction.files import run_prediction

    request = Request(
        Path(folder),
        str(source),
        None if out is None else Path(out),
        columns=dict(columns or {}),
        any_criterion=any_criterion,
        skip_bad=skip_bad,
        resume=resume,
        resources=Resources(device, budget_gib, precision),
    )
    return run_prediction(request, console=console or Console(stderr=True), quiet=quiet)


def estimate_memory(
    model: str,
    batch: int,
    length: int,
    *,
    precision: Literal["bf16", "fp32"] | None = None,
    budget_gib: float | None = None,
    device: Literal["cpu", "cuda"] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> "Verdict":
    """Predict what one training step needs, and how its batch is split to fit. Nothing is trained.

    Args:
        model: built-in encoder, model folder or hub name.
        batch: effective batch in samples.
        length: tokens of an input.
        precision: None takes what the device does best.
        budget_gib: memory of the device in GiB; None asks about this machine.
        device: None means a CUDA card if a budget is given, and else what this machine has.
        settings: further settings by dotted name, such as ``{"optim.name": "lion"}``.

    Returns:
        Whether it fits, the need in GiB, and the micro-batch and accumulation steps.

    Raises:
        UserError: there is no such model, or a setting is wrong.
    """
    from tune_app.estimates import Target, verdict

    if batch < 1:
        raise UserError(f"batch: {batch}: give the samples of an optimizer step, at least 1")
    if budget_gib is not None and not 0 < budget_gib < float("inf"):
        raise UserError(f"budget_gib: {budget_gib}: give the memory of the card in GiB, e.g. 24")
    given = {"study": {"name": "estimate"}, "data": {"path": "demo"}}
    config = load_config(given, {"model.name": model, "tok.max_length": length, **(settings or {})})
    _, answer = verdict(config, model, batch, length, Target(device, budget_gib, precision))
    return answer
