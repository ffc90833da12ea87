"""Loading checkpoints: every tensor equals the file's, in fp32, or the error names it."""

import json
import multiprocessing
import pickle
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel

from trainables.models.builtin import build_encoder
from trainables.models.load import LoadReport, ModelLoadError, load_encoder, load_tokenizer, match_names
from trainables.models.names import ModelSource, resolve_model

pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning"),
    # sentencepiece's compiled types carry no module name, and Python 3.12 warns of that.
    pytest.mark.filterwarnings("ignore:builtin type .* has no __module__ attribute:DeprecationWarning"),
]


def _source(folder: Path) -> ModelSource:
    return resolve_model(str(folder))


def _load(folder: Path) -> tuple[PreTrainedModel, LoadReport]:
    loaded = load_encoder(_source(folder), seed=0)
    return loaded.model, loaded.report


def _save(model: PreTrainedModel, folder: Path, tensors: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Write config.json and model.safetensors with ``tensors``, or the model's own, and return them."""
    folder.mkdir(exist_ok=True)
    model.config.save_pretrained(folder)
    tensors = dict(model.state_dict()) if tensors is None else tensors
    save_file(tensors, folder / "model.safetensors")
    return tensors


def _assert_sound(model: PreTrainedModel) -> None:
    tensors = [*model.parameters(), *model.buffers()]
    assert not any(tensor.is_meta for tensor in tensors)
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}


def _assert_equal(model: PreTrainedModel, tensors: dict[str, Tensor]) -> None:
    _assert_sound(model)
    state = model.state_dict()
    assert state.keys() == tensors.keys()
    assert all(torch.equal(state[name], tensors[name].float()) for name in state)


def test_minilm_is_its_file() -> None:
    source = resolve_model("minilm-l6")
    loaded = load_encoder(source, seed=0)
    tensors = load_file(f"{source.path}/model.safetensors")
    positions = tensors.pop("embeddings.position_ids")
    _assert_equal(loaded.model, tensors)
    assert torch.equal(dict(loaded.model.named_buffers())["embeddings.position_ids"], positions)
    assert loaded.report == LoadReport(("embeddings.position_ids",), (), "float32")
    assert not loaded.model.training


def test_minilm_computes_what_from_pretrained_computes() -> None:
    source = resolve_model("minilm-l6")
    folder = str(source.path)
    batch = load_tokenizer(folder)(["a reader", "another"], ["x", "y z"], padding=True, return_tensors="pt")
    reference = AutoModel.from_pretrained(folder)
    with torch.no_grad():
        got = load_encoder(source, seed=0).model(**batch)
        expected = reference(**batch)
    assert torch.equal(got.last_hidden_state, expected.last_hidden_state)
    assert torch.equal(got.pooler_output, expected.pooler_output)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_fp32_with_equal_values(
    bert: PreTrainedModel, tmp_path: Path, dtype: torch.dtype
) -> None:
    tensors = _save(bert, tmp_path, {name: tensor.to(dtype) for name, tensor in bert.state_dict().items()})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"dtype": str(dtype).removeprefix("torch.")}))
    model, report = _load(tmp_path)
    _assert_equal(model, tensors)
    assert report.checkpoint_dtype == str(dtype).removeprefix("torch.")


def test_a_head_and_a_prefix_and_old_names_are_understood(bert: PreTrainedModel, tmp_path: Path) -> None:
    legacy = {"weight": "gamma", "bias": "beta"}
    old = {
        "bert." + re.sub(r"(LayerNorm)\.(weight|bias)", lambda m: f"{m[1]}.{legacy[m[2]]}", name): tensor
        for name, tensor in bert.state_dict().items()
    }
    assert "bert.embeddings.LayerNorm.gamma" in old
    heads = {"cls.predictions.bias": torch.ones(4), "bert.embeddings.position_ids": torch.arange(512)[None]}
    _save(bert, tmp_path, old | heads)
    model, report = _load(tmp_path)
    _assert_equal(model, dict(bert.state_dict()))
    assert report == LoadReport(tuple(sorted(heads)), (), "float32")


def test_names_are_matched_as_they_are_before_they_are_changed() -> None:
    assert match_names(["bert.a.gamma", "b", "head.x"], ["a.weight", "b", "c"], "bert") == {
        "bert.a.gamma": "a.weight",
        "b": "b",
    }
    assert match_names(["scale.gamma"], ["scale.gamma", "scale.weight"], "x") == {"scale.gamma": "scale.gamma"}


def test_a_missing_tensor_is_named(bert: PreTrainedModel, tmp_path: Path) -> None:
    tensors = dict(bert.state_dict())
    del tensors["encoder.layer.1.output.dense.weight"]
    _save(bert, tmp_path, tensors)
    with pytest.raises(ModelLoadError, match=r"lacks encoder\.layer\.1\.output\.dense\.weight$"):
        _load(tmp_path)


def test_half_a_pooler_is_missing_tensors(bert: PreTrainedModel, tmp_path: Path) -> None:
    tensors = dict(bert.state_dict())
    del tensors["pooler.dense.bias"]
    _save(bert, tmp_path, tensors)
    with pytest.raises(ModelLoadError, match=r"lacks pooler\.dense\.bias$"):
        _load(tmp_path)


def test_a_pooler_that_the_checkpoint_lacks_is_left_out(bert: PreTrainedModel, tmp_path: Path) -> None:
    tensors = {name: tensor for name, tensor in bert.state_dict().items() if not name.startswith("pooler.")}
    _save(bert, tmp_path, tensors)
    model, report = _load(tmp_path)
    _assert_equal(model, tensors)
    assert report.freshly_initialised == ()
    assert model(input_ids=torch.tensor([[1, 2]])).pooler_output is None


def test_another_shape_is_named_with_both(bert: PreTrainedModel, tmp_path: Path) -> None:
    tensors = dict(bert.state_dict())
    tensors["pooler.dense.weight"] = torch.zeros(7, 128)
    _save(bert, tmp_path, tensors)
    with pytest.raises(ModelLoadError, match=r"pooler\.dense\.weight \(7, 128\) for \(128, 128\)"):
        _load(tmp_path)


def test_integers_are_no_weights(bert: PreTrainedModel, tmp_path: Path) -> None:
    tensors = dict(bert.state_dict())
    tensors["pooler.dense.weight"] = torch.zeros(128, 128, dtype=torch.int8)
    _save(bert, tmp_path, tensors)
    with pytest.raises(ModelLoadError, match=r"pooler\.dense\.weight torch\.int8"):
        _load(tmp_path)


def test_values_that_cannot_all_be_kept_are_named(bert: PreTrainedModel, tmp_path: Path) -> None:
    tensors = dict(bert.state_dict())
    tensors["bert.pooler.dense.weight"] = torch.zeros((128, 128))
    _save(bert, tmp_path, tensors)
    with pytest.raises(ModelLoadError, match=r"not equal to the checkpoint.*pooler\.dense\.weight"):
        _load(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_finite_numbers_are_named(bert: PreTrainedModel, tmp_path: Path, value: float) -> None:
    tensors = {name: tensor.clone() for name, tensor in bert.state_dict().items()}
    tensors["pooler.dense.weight"][3, 4] = value
    tensors["pooler.dense.bias"][0] = 3e38
    tensors["pooler.dense.bias"][1] = 3e38
    _save(bert, tmp_path, tensors)
    with pytest.raises(ModelLoadError, match=r"NaN or infinite.*: pooler\.dense\.weight; fetch"):
        _load(tmp_path)


def test_layers_that_the_configuration_leaves_out_are_named(bert: PreTrainedModel, tmp_path: Path) -> None:
    _save(bert, tmp_path, dict(bert.state_dict()))
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "num_hidden_layers": 1}))
    with pytest.raises(ModelLoadError, match=r"leaves out: encoder\.layer\.1\..*num_hidden_layers"):
        _load(tmp_path)


def test_a_quantised_model_is_refused(bert: PreTrainedModel, tmp_path: Path) -> None:
    _save(bert, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(ModelLoadError, match="quantised"):
        _load(tmp_path)


def test_code_beside_a_model_is_not_run(bert: PreTrainedModel, tmp_path: Path) -> None:
    _save(bert, tmp_path)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    config = json.loads((tmp_path / "config.json").read_text())
    remote = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}}
    (tmp_path / "config.json").write_text(json.dumps(config | remote))
    with pytest.raises(ModelLoadError, match=r"config\.json"):
        _load(tmp_path)
    assert not (tmp_path / "ran").exists()


def _shards(bert: PreTrainedModel, folder: Path) -> dict[str, Tensor]:
    tensors = dict(bert.state_dict())
    bert.config.save_pretrained(folder)
    names = sorted(tensors)
    shard_of = {name: f"model-{1 + (i >= 20)}.safetensors" for i, name in enumerate(names)}
    for shard in set(shard_of.values()):
        save_file({name: tensors[name] for name in names if shard_of[name] == shard}, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shard_of}))
    return tensors


def test_shards_are_put_together(bert: PreTrainedModel, tmp_path: Path) -> None:
    tensors = _shards(bert, tmp_path)
    _assert_equal(_load(tmp_path)[0], tensors)


def test_a_missing_shard_is_named(bert: PreTrainedModel, tmp_path: Path) -> None:
    _shards(bert, tmp_path)
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(ModelLoadError, match=r"the shard model-2\.safetensors is missing"):
        _load(tmp_path)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ('{"weight_map": {"a": "../a.safetensors"}}', "outside the model's folder"),
        ('{"weight_map": {"a": "model-1.safetensors"}}', "its shards lack a;"),
        ('{"weight_map": 3}', "not an index of shards"),
        ("{", "not an index of shards"),
    ],
)
def test_a_wrong_index_is_refused(bert: PreTrainedModel, tmp_path: Path, index: str, message: str) -> None:
    _shards(bert, tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ModelLoadError, match=message):
        _load(tmp_path)


@pytest.mark.parametrize("keep", [0, 100, 300_000])
def test_a_truncated_file_is_named(bert: PreTrainedModel, tmp_path: Path, keep: int) -> None:
    _save(bert, tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:keep])
    with pytest.raises(ModelLoadError, match=r"model\.safetensors cannot be read") as caught:
        _load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_weights_is_refused(bert: PreTrainedModel, tmp_path: Path) -> None:
    bert.config.save_pretrained(tmp_path)
    with pytest.raises(ModelLoadError, match=r"no weights in .*needs one of model\.safetensors"):
        _load(tmp_path)


def test_a_config_that_is_none_is_named(bert: PreTrainedModel, tmp_path: Path) -> None:
    _save(bert, tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelLoadError, match=r"config\.json"):
        _load(tmp_path)


def test_pickled_weights_are_read(bert: PreTrainedModel, tmp_path: Path) -> None:
    bert.config.save_pretrained(tmp_path)
    torch.save(dict(bert.state_dict()), tmp_path / "pytorch_model.bin")
    _assert_equal(_load(tmp_path)[0], dict(bert.state_dict()))


class _Malicious:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[str, str], object], tuple[str, str]]:
        return open, (str(self.trace), "w")


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_pickle_that_runs_code_is_refused(
    bert: PreTrainedModel, tmp_path: Path, save: Callable[[object, Path], object]
) -> None:
    bert.config.save_pretrained(tmp_path)
    save({"a": _Malicious(tmp_path / "ran")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelLoadError, match=r"pytorch_model\.bin is damaged or holds more than tensors") as caught:
        _load(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_of_something_else_is_refused(bert: PreTrainedModel, tmp_path: Path) -> None:
    bert.config.save_pretrained(tmp_path)
    torch.save({"model": dict(bert.state_dict()), "epoch": 3}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelLoadError, match="no plain table of tensors"):
        _load(tmp_path)


def test_a_hub_model_out_of_reach_gets_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelLoadError, match=r"'nobody/nothing'.*model folder, a built-in model") as encoder:
        load_encoder(resolve_model("nobody/nothing"), seed=0)
    with pytest.raises(ModelLoadError, match=r"'nobody/nothing'.*model folder, a built-in model") as tokenizer:
        load_tokenizer("nobody/nothing")
    for caught in (encoder, tokenizer):
        assert "\n" not in str(caught.value)
        assert caught.value.__cause__ is None


def test_a_damaged_tokenizer_is_named(tmp_path: Path, bert: PreTrainedModel) -> None:
    bert.config.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": 3}')
    with pytest.raises(ModelLoadError, match=str(tmp_path)):
        load_tokenizer(tmp_path)


@pytest.fixture(scope="module")
def deberta_folder(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> Path:
    """Save a folder like DeBERTa-v3's: half-precision weights in pytorch_model.bin, and a sentencepiece model."""
    import sentencepiece

    folder = tmp_path_factory.mktemp("deberta")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(folder / "spm"),
        vocab_size=400,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=3,
        pad_piece="[PAD]",
        bos_piece="[CLS]",
        eos_piece="[SEP]",
        unk_piece="[UNK]",
        minloglevel=2,
    )
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false, "vocab_type": "spm"}')
    config = AutoConfig.for_model(
        "deberta-v2",
        vocab_size=408,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        relative_attention=True,
        position_buckets=32,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        type_vocab_size=0,
    )
    config.save_pretrained(folder)
    state = build_encoder(config, seed=0).state_dict()
    heads = {"lm_predictions.lm_head.bias": torch.zeros(408, dtype=torch.half)}
    torch.save(
        {f"deberta.{name}": tensor.half() for name, tensor in state.items()} | heads, folder / "pytorch_model.bin"
    )
    return folder


def _load_twice(folder: Path) -> list[int]:
    """Load encoder and tokenizer, check both against the files, and return the ids of a pair."""
    expected = torch.load(folder / "pytorch_model.bin", weights_only=True)
    expected.pop("lm_predictions.lm_head.bias")
    ids: list[int] = []
    for _ in range(2):
        model, report = _load(folder)
        _assert_equal(model, {name.removeprefix("deberta."): tensor for name, tensor in expected.items()})
        assert report == LoadReport(("lm_predictions.lm_head.bias",), (), "float16")
        ids = load_tokenizer(folder)("abc", "de")["input_ids"]
    return ids


def test_threads_that_load_at_once_all_get_the_files(deberta_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(deberta_folder)
    expected = tokenizer("abc", "de")["input_ids"]
    assert (expected[0], expected[-1]) == (1, 2)
    assert tokenizer.unk_token_id not in expected
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(_load_twice, [deberta_folder] * 12)) == [expected] * 12


@pytest.mark.slow
def test_processes_that_load_at_once_all_get_the_files(deberta_folder: Path) -> None:
    expected = _load_twice(deberta_folder)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes:
        assert list(processes.map(_load_twice, [deberta_folder] * 2)) == [expected] * 2
