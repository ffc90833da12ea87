"""Trainings of a confirmation: their seeds, their study, and what is read of it."""

from typing import Any

import pytest

from trainables.seeds import trial_seeds
from trainables.settings import Redraw, with_params
from tune_app.confirmation.trainings import seed_params, trainings_config, trainings_record
from tune_app.study.run_dir import recorded_config, stored_config, write_config
from tune_app.study.store import open_study


def test_a_seed_redraws_everything_but_the_test_part(searched: Any) -> None:
    base = searched.config.trial_settings()
    first, second = (with_params(base, seed_params(0, seed, None)).seeds for seed in (1, 2))
    assert first.split == second.split == base.seeds.split
    for name in ("init", "order", "augment", "validation"):
        assert len({getattr(seeds, name) for seeds in (base.seeds, first, second)}) == 3
    searched_seeds = trial_seeds(0)
    used = {searched_seeds.split, searched_seeds.init, searched_seeds.order, searched_seeds.augment}
    assert not used & {value for seed in range(1, 31) for value in seed_params(0, seed, None).values()}


def test_folds_share_a_partition_and_differ_in_the_fold(searched: Any) -> None:
    base = searched.config.trial_settings()
    drawn = [with_params(base, seed_params(0, seed, 3)).seeds for seed in (1, 2, 3)]
    assert len({seeds.validation for seeds in drawn}) == 1
    assert len({seeds.init for seeds in drawn}) == 3
    assert drawn[2].redraw == Redraw(drawn[0].validation or 0, 2, 3)


@pytest.mark.parametrize(("folds", "name"), [(None, "confirm-seeds"), (4, "confirm-4-folds")])
def test_the_trainings_are_a_study_beside_the_search(searched: Any, folds: int | None, name: str) -> None:
    named = searched.named()
    config = trainings_config(named, folds)
    record = trainings_record(named.store.record, folds)
    assert config.run_dir == str(searched.run_dir / "confirm" / name)
    assert (config.scheduler.name, config.data.folds, config.tracking.enabled) == ("none", None, False)
    (searched.run_dir / "confirm" / name).mkdir(parents=True)
    run_dir = searched.run_dir / "confirm" / name
    store = open_study(run_dir, name, None, record)
    params = {"optim.lr": 1e-3, "train.batch_size": 16, **seed_params(0, 1, folds)}
    assert dict(store.trial(store.open_trial(params, {})).params) == params
    # The stored configuration stays one that every command reads.
    write_config(config, run_dir)
    assert recorded_config(store, stored_config(run_dir))[0] == config
