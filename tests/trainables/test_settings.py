"""Values of a sample in the settings that they set."""

import pytest

from trainables.seeds import trial_seeds
from trainables.settings import DataSettings, TrainSettings, TrialSettings, with_params

BASE = TrialSettings(DataSettings("demo"), trial_seeds(0))


def test_values_take_the_places_that_their_names_say_and_leave_the_rest() -> None:
    params = {"optim.lr": 0.1, "optim.eps": 1e-6, "train.batch_size": 48, "head.pooling": "mean", "train.tf32": False}
    changed = with_params(BASE, params)
    assert (changed.optim.lr, changed.optim.eps, changed.head.pooling) == (0.1, 1e-6, "mean")
    assert changed.train == TrainSettings(batch_size=48, tf32=False)
    assert changed.optim.weight_decay == BASE.optim.weight_decay
    assert (changed.data, changed.seeds, changed.model) == (BASE.data, BASE.seeds, BASE.model)
    assert BASE.optim.lr != 0.1


def test_no_values_change_nothing() -> None:
    assert with_params(BASE, {}) == BASE


@pytest.mark.parametrize(
    "name", ["optim.rate", "optimiser.lr", "optim", "lr", "", ".", "data.columns.text", "train.effective_batch"]
)
def test_a_name_that_is_no_setting_is_refused(name: str) -> None:
    with pytest.raises(KeyError) as caught:
        with_params(BASE, {"optim.lr": 0.1, name: 1})
    assert caught.value.args == (name,)


def test_the_effective_batch_is_batch_size_times_accumulation() -> None:
    assert TrainSettings(batch_size=24, grad_accum=3).effective_batch == 72
