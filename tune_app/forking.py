"""Fork of a study: another version that begins with the fitting trials of the first."""

from contextlib import ExitStack
from pathlib import Path

from tune_app.config import RunConfig
from tune_app.folders import check_own_folders, made_folder
from tune_app.screening.preconditions import study_record, with_classes_of_data
from tune_app.screening.unread_parameters import check_training
from tune_app.study.remote import LOCAL_FILES, open_permanent_storage
from tune_app.study.run_dir import check_study_dir, keep_config
from tune_app.study.store import LOCK_FILE, StudyStore, search_lock
from tune_app.study.versions import begin, choose, parent_of


def fork(parent: StudyStore, parent_dir: Path, config: RunConfig) -> tuple[RunConfig, str]:
    """Begin the study of a configuration with the fitting trials of another study, without running anything.

    Returns:
        The configuration with the new study's name, and a sentence on the trials carried over.

    Raises:
        UserError: the configuration, the data or the storage does not allow the study.
    """
    check_own_folders()
    check_study_dir(config)
    config = with_classes_of_data(config)
    record = study_record(config)
    opening = choose(config, record, fresh=True)
    config = opening.config
    run_dir = Path(config.run_dir)
    with made_folder(run_dir, "study.dir", traces=[LOCK_FILE, *LOCAL_FILES]), ExitStack() as stack:
        check_training(config, lambda _: None, from_here=False)
        stack.enter_context(search_lock(run_dir))
        stack.enter_context(open_permanent_storage(config))
        store, carried = begin(opening, parent_of(parent, parent_dir))
        store.set_target(config.search.trials)
        keep_config(store, config, run_dir)
    return config, carried or ""
