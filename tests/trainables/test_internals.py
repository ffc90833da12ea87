"""Private names of torch and transformers: each exists as a trial relies on it, and one module uses them."""

import ast
import inspect
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from transformers import BertConfig, BertModel, PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.masking_utils import sdpa_mask
from transformers.utils import hub

from trainables import internals

FOLDER = Path(internals.__file__).parent

# Every function whose first parameters a trial relies on, without ``self``.
SIGNATURES: list[tuple[Callable[..., Any], list[str]]] = [
    (OpOverload._can_decompose, []),
    (OpOverload.decompose, ["args", "kwargs"]),
    (TorchDispatchMode._should_skip_dynamo, []),
    (_disable_current_modes, []),
    (no_init_weights, []),
    (sdpa_mask, ["batch_size", "q_length", "kv_length"]),
    (PreTrainedModel._set_gradient_checkpointing, ["enable", "gradient_checkpointing_func"]),
    (hub.cached_file, ["path_or_repo_id", "filename", "kwargs"]),
]

SCHEMAS = {
    "_scaled_dot_product_efficient_attention": (
        "(Tensor query, Tensor key, Tensor value, Tensor? attn_bias, bool compute_log_sumexp, float dropout_p=0.,"
        " bool is_causal=False, *, float? scale=None) -> (Tensor output, Tensor log_sumexp, Tensor philox_seed,"
        " Tensor philox_offset)"
    ),
    "native_dropout": "(Tensor input, float p, bool? train) -> (Tensor, Tensor)",
    "_local_scalar_dense": "(Tensor self) -> Scalar",
}


@pytest.mark.parametrize(
    ("function", "parameters"), SIGNATURES, ids=[function.__qualname__ for function, _ in SIGNATURES]
)
def test_a_private_function_takes_what_it_is_given(function: Callable[..., Any], parameters: list[str]) -> None:
    there = [name for name in inspect.signature(function).parameters if name != "self"]
    assert there[: len(parameters)] == parameters


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_private_operator_has_the_schema_that_is_relied_on(name: str) -> None:
    schema = getattr(torch.ops.aten, name).default._schema
    assert str(schema) == f"aten::{name}{SCHEMAS[name]}"


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_the_names_were_read_in_this_version(package: str) -> None:
    installed = version(package).partition("+")[0]
    assert f"{package} {installed}" in (internals.__doc__ or ""), "read trainables/internals.py against it"


def test_a_file_that_is_missing_on_the_hub_is_no_error() -> None:
    assert "_raise_exceptions_for_missing_entries" in inspect.signature(hub.cached_files).parameters


def test_a_storage_has_one_address() -> None:
    tensor, other = torch.zeros(3), torch.zeros(3)
    assert internals.storage_address(tensor.untyped_storage()) == internals.storage_address(
        tensor[1:].untyped_storage()
    )
    assert internals.storage_address(tensor.untyped_storage()) != internals.storage_address(other.untyped_storage())


class Seen(internals.DispatchMode):
    """Mode that lists the operators it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: list[Any] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.operators.append(func)
        return func(*args, **(kwargs or {}))


def test_a_mode_sees_operators_except_where_it_must_not() -> None:
    with Seen() as seen:
        torch.zeros(2)
        with internals.without_modes():
            torch.ones(2)
        with internals.without_dispatch():
            torch.ones(2)
        torch.zeros(1).item()
    assert "aten::ones" not in {operator.name() for operator in seen.operators}
    assert [internals.is_number_read(operator) for operator in seen.operators][-1]
    assert {internals.operator_key(operator) for operator in seen.operators}


def test_operators_say_what_they_make_and_consist_of() -> None:
    aten = torch.ops.aten
    assert internals.makes_storage(aten.add.Tensor)
    assert internals.makes_storage(aten.add.out)
    assert internals.makes_storage(aten.resize_.default)
    assert not internals.makes_storage(aten.add_.Tensor)
    assert internals.is_composite(aten.linear.default)
    assert not internals.has_cpu_kernel(aten.linear.default)
    assert internals.has_cpu_kernel(aten.mm.default)
    with torch.inference_mode(), Seen() as seen:
        got = internals.decomposed(aten.linear.default, (torch.ones(2, 3), torch.ones(1, 3)), {})
    assert got.tolist() == [[3], [3]]
    assert seen.operators


def test_a_replaced_kernel_acts_under_autocast_alone_and_only_in_its_block() -> None:
    calls: list[int] = []

    def doubled(features: Tensor) -> Tensor:
        calls.append(1)
        with internals.without_autocast():
            return 2 * torch.ops.aten.exp.default(features)

    zero = torch.zeros(1)
    with internals.kernels_of("aten") as library:
        library.impl("exp", doubled, "AutocastCPU")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert zero.exp().item() == 2
        assert zero.exp().item() == 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert zero.exp().item() == 1
    assert len(calls) == 1


def test_cuda_s_attention_and_dropout_run_anywhere() -> None:
    query, key, value = torch.randn(3, 2, 4, 5, 8)
    bias = torch.zeros(2, 4, 5, 5)
    with internals.FakeTensorMode() as fake:
        made = [fake.from_tensor(tensor) for tensor in (query, key, value, bias)]
        assert internals.efficient_attention(*made, 0.0, None).shape == (2, 4, 5, 8)
    dropped = internals.dropout_with_mask(torch.ones(1000), 0.5)
    assert set(dropped.tolist()) == {0.0, 2.0}


def test_models_are_built_as_they_are_asked_for() -> None:
    config = BertConfig(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8, vocab_size=9)
    internals.set_attention(config, "eager")
    with internals.no_random_weights():
        model = BertModel(config)
    assert model.config._attn_implementation == "eager"
    called: list[nn.Module] = []
    internals.set_checkpointing(model.train(), lambda layer, *args, **kwargs: called.append(layer) or layer(*args))
    with torch.no_grad():
        nn.init.normal_(model.embeddings.word_embeddings.weight)
    model(torch.tensor([[1, 2, 3]]))
    assert len(called) == 2


def test_clearing_workspaces_is_a_function_of_a_cuda_build() -> None:
    if torch.version.cuda is None:
        pytest.skip("this torch is built without CUDA")
    assert callable(torch._C._cuda_clearCublasWorkspaces)


def private_names(tree: ast.Module, ours: set[str]) -> Iterator[str]:
    """Yield the private names of torch and transformers that a module uses, by attribute, import or argument."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=names) if module.split(".")[0] in ("torch", "transformers"):
                for alias in names:
                    if any(part.startswith("_") for part in (*module.split("."), alias.name)):
                        yield f"{module}.{alias.name}"
            case ast.Attribute(attr=name) if _is_private(name) and name not in ours:
                yield ast.unparse(node)
            case ast.keyword(arg=str(name)) if _is_private(name) and name not in ours:
                yield name


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def defined(tree: ast.Module) -> Iterator[str]:
    """Yield the names that classes of a module give to their attributes and methods."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                yield name


def test_one_module_uses_private_names() -> None:
    trees = {str(file.relative_to(FOLDER)): ast.parse(file.read_text()) for file in FOLDER.rglob("*.py")}
    ours = {name for tree in trees.values() for name in defined(tree)} | {"_getframe"}
    used = {file: sorted(private_names(tree, ours)) for file, tree in trees.items()}
    assert len(used.pop("internals.py")) > 10
    assert {name: names for name, names in used.items() if names} == {}


def test_a_packed_product_is_the_product_with_its_activation() -> None:
    weight, bias, inputs = torch.randn(12, 8), torch.randn(12), torch.randn(3, 5, 8)
    expected = nn.functional.linear(inputs, weight, bias)
    for added, activation, layer in (
        (bias, nn.Identity(), internals.packed_linear(weight, bias)),
        (0.0, nn.Identity(), internals.packed_linear(weight, None)),
        (bias, nn.functional.gelu, internals.packed_linear(weight, bias, gelu=True)),
    ):
        assert layer is not None
        assert torch.allclose(layer(inputs), activation(expected - bias + added), atol=1e-5)
