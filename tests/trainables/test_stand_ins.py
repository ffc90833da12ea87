"""Models that no trial can train or score: a check with a small one rejects them, whatever the family."""

from pathlib import Path

import pytest
from transformers import AutoConfig

from trainables.models.checkpoint import ModelLoadError
from trainables.models.families import FAMILIES
from trainables.planning.needs import encoder_config
from trainables.stand_ins import check_trainable, small_model


def refusal(model_type: str, pooling: str | None = "cls") -> str:
    with pytest.raises(ModelLoadError) as caught:
        check_trainable("mine", AutoConfig.for_model(model_type), pooling)
    message = str(caught.value)
    assert message.startswith("model 'mine': ")
    assert message.endswith("use a model of another family, such as bert, roberta or deberta-v2")
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize("family", FAMILIES)
def test_every_known_family_can_be_trained(family: str) -> None:
    check_trainable("mine", AutoConfig.for_model(family))


@pytest.mark.parametrize("family", ["fnet", "convbert", "nystromformer"])
def test_an_encoder_to_which_padding_makes_a_difference_is_refused(family: str) -> None:
    assert f"the outputs of {family} encoders change with the padding" in refusal(family)


@pytest.mark.parametrize("family", ["longformer", "xlnet", "xlm"])
def test_an_encoder_whose_memory_cannot_be_predicted_is_refused(family: str) -> None:
    assert f"the memory of {family} encoders cannot be predicted" in refusal(family)


@pytest.mark.parametrize("family", ["umt5", "reformer"])
def test_a_model_that_gives_no_outputs_of_the_tokens_is_refused(family: str) -> None:
    assert f"model type '{family}' gives no outputs of a text's tokens: " in refusal(family)


def test_a_first_token_that_knows_nothing_of_the_others_is_not_pooled() -> None:
    gpt2 = AutoConfig.for_model("gpt2")
    assert "set head.pooling to mean" in refusal("gpt2")
    assert "set head.pooling to mean" in refusal("gpt2", pooling=None)
    check_trainable("mine", gpt2, "mean")


def test_a_pooler_that_every_trial_uses_must_be_there() -> None:
    assert "pooler" in refusal("roformer", "pooler")
    check_trainable("mine", AutoConfig.for_model("bert"), "pooler")


def test_a_family_that_takes_no_narrow_sizes_stands_in_as_it_is(tmp_path: Path) -> None:
    config = AutoConfig.for_model("squeezebert", vocab_size=300)
    folder = small_model(config, tmp_path / "model")
    assert encoder_config(str(folder), None).hidden_size == config.hidden_size
