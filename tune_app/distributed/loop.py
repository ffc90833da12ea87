"""Tune's loop, from the first suggestion to the last trial's end."""

import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from typing import Any

from ray import tune

from tune_app.distributed.messages import Launch, number_of
from tune_app.distributed.private import cleaned_up_by, deaths_are_the_trials, unrecorded
from tune_app.study.checkpoints import StudyCheckpoints, trial_folder
from tune_app.uris import is_store

_LOOK_S = 0.2


def run_loop(
    trainable: Callable[[Mapping[str, Any]], None],
    *,
    searcher: Any,
    scheduler: Any,
    callbacks: list[Any],
    cpus: int,
    checkpoints: StudyCheckpoints,
    retries: int,
    answers: Callable[[], bool] = lambda: True,
) -> None:
    """Run Tune's loop until the searcher has nothing left to suggest and every trial has ended, or a signal arrives.

    Every trial gets ``cpus`` and the GPUs that its configuration names. The study holds the trials' outcomes; Tune's
    own result says less.

    Args:
        checkpoints: checkpoints of the study, where those of the trials are copied.
        retries: number of times to run a trial again whose worker died.
        answers: returns whether Ray still answers.
    """
    storage = checkpoints.storage
    filesystem, location = storage.opened()

    def resources(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
        gpus = Launch.from_dict(config).gpus
        return tune.PlacementGroupFactory([{"CPU": cpus, **({"GPU": gpus} if gpus else {})}])

    # Ray pickles the function with everything it refers to, so it refers to the id alone.
    study_id = checkpoints.study_id

    def folder_of(trial: Any) -> str:
        return trial_folder(number_of(trial), study_id, trial.trial_id)

    tune_config = tune.TuneConfig(
        search_alg=searcher,
        scheduler=scheduler,
        # The searcher counts the trials: Tune would count retried and resumed trials differently from the study.
        num_samples=-1,
        reuse_actors=True,
        trial_dirname_creator=folder_of,
        trial_name_creator=folder_of,
    )
    run_config = tune.RunConfig(
        storage_path=location,
        storage_filesystem=None if filesystem.type_name == "local" else filesystem,
        name=checkpoints.folder,
        callbacks=callbacks,
        verbose=0,
        failure_config=tune.FailureConfig(max_failures=retries),
        checkpoint_config=tune.CheckpointConfig(num_to_keep=None),
        log_to_file=False,
    )
    try:
        with storage.as_storage_errors():
            trial = tune.with_resources(trainable, resources)
            with unrecorded(), deaths_are_the_trials(), cleaned_up_by(lambda clean_up: _while(answers, clean_up)):
                tune.Tuner(trial, tune_config=tune_config, run_config=run_config).fit()
    finally:
        # If a store does not answer now, some small files that nobody reads stay there.
        with suppress(OSError) if is_store(storage.address) else nullcontext():
            checkpoints.remove_rays_records()


def _while(answers: Callable[[], bool], action: Callable[[], object]) -> None:
    """Run an action that may wait forever for Ray, and abandon it once Ray no longer answers."""
    errors: list[BaseException] = []

    def do() -> None:
        try:
            action()
        except BaseException as error:
            errors.append(error)

    doing = threading.Thread(target=do, daemon=True)
    if answers():
        doing.start()
    while doing.is_alive() and answers():
        doing.join(_LOOK_S)
    # An abandoned action fails because Ray is gone, which the caller knows.
    if errors and answers():
        raise errors[0]
