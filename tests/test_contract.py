"""What every model of the package promises. A new model is one more line in MODELS, and gets all of this."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from test_structure import KEYS
from torch import Tensor, nn

from attention_notes.layers.drop_path import DropPath
from attention_notes.papers.transformer import PreNorm, transformer
from attention_notes.papers.vit import MeanPooling, vit
from attention_notes.probe import record_attention

BATCH = 3
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class Case:
    """How to build a small model of a family, and inputs for it."""

    build: Callable[[], nn.Module]
    inputs: Callable[..., tuple[Tensor, ...]]
    no_softmax: str = ""  # why there are no rows of attention to record


def images(y: int = 28, x: int = 42) -> tuple[Tensor]:
    return (torch.randn(BATCH, 3, y, x, device=DEVICE),)


def sentences(m: int = 11, n: int = 7) -> tuple[Tensor, Tensor]:
    return torch.randint(1, 23, (BATCH, m), device=DEVICE), torch.randint(1, 23, (BATCH, n), device=DEVICE)


SMALL = {"layers": 2, "dim": 30, "heads": 3, "hidden": 44, "dropout": 0.1}
TINY = {"dim": 30, "depth": 2, "heads": 3, "hidden": 44, "patch": (7, 14), "num_classes": 5, "image_size": (28, 42)}
MODELS = {
    "transformer": Case(partial(transformer, "base", vocabulary=23, **SMALL), sentences),
    "transformer pre-norm": Case(partial(transformer, "base", vocabulary=23, residual=PreNorm, **SMALL), sentences),
    "vit": Case(partial(vit, "Ti/16", **TINY), images),
    "vit pooled": Case(partial(vit, "Ti/16", pooling=MeanPooling, dropout=0.1, **TINY), images),
}
# Papers without a model of their own, each with the reason.
NO_MODEL = {"self_attention": "an operation without parameters and the parts around it"}

every_model = pytest.mark.parametrize("case", MODELS.values(), ids=MODELS.keys())


def randomised(case: Case) -> nn.Module:
    """A model in evaluation mode whose parameters are all random, those that start at zero or one too."""
    model = case.build().eval().to(DEVICE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def run(model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """What the model answers; several answers, as of two heads in training, side by side."""
    out = model(*inputs)
    return out if isinstance(out, Tensor) else torch.cat([*out], -1)


def refusal(model: nn.Module, inputs: tuple[Tensor, ...]) -> str:
    """The words with which the model refuses its inputs, none if it takes them."""
    try:
        run(model, inputs)
    except ValueError as error:
        return str(error)
    return ""


def changed(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The same inputs with another first sample."""
    other = tuple(x.clone() for x in inputs)
    for x in other:
        x[0] = x[0].roll(1, -1) if x.dtype == torch.int64 else torch.randn_like(x[0])
    return other


def test_every_paper_is_held_to_the_contract_or_says_why_not():
    assert {name.split()[0] for name in MODELS} | NO_MODEL.keys() == set(KEYS)


@every_model
def test_the_output_depends_on_the_input(case):
    model, inputs = randomised(case), case.inputs()
    assert (run(model, inputs)[0] - run(model, changed(inputs))[0]).abs().max() > 1e-3


@every_model
def test_samples_of_a_batch_do_not_mix(case):
    model, inputs = randomised(case), case.inputs()
    torch.testing.assert_close(run(model, inputs)[1:], run(model, changed(inputs))[1:], atol=1e-5, rtol=1e-5)
    alone = torch.cat([run(model, tuple(x[i : i + 1] for x in inputs)) for i in range(BATCH)])
    torch.testing.assert_close(run(model, inputs), alone, atol=1e-5, rtol=1e-5)


@every_model
def test_every_parameter_gets_a_gradient(case):
    model = randomised(case).train()
    run(model, case.inputs()).square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@every_model
def test_evaluation_is_deterministic(case):
    model, inputs = randomised(case), case.inputs()
    assert torch.equal(run(model, inputs), run(model, inputs))


@every_model
def test_training_drops_and_evaluation_does_not(case):
    model, inputs = randomised(case).train(), case.inputs()
    dropping = any(module.p > 0 for module in model.modules() if isinstance(module, nn.Dropout | DropPath))
    assert torch.equal(run(model, inputs), run(model, inputs)) is not dropping


@every_model
def test_bfloat16_agrees_to_its_precision(case):
    model, inputs = randomised(case), case.inputs()
    exact = run(model, inputs)
    halved = tuple(x.bfloat16() if x.is_floating_point() else x for x in inputs)
    rough = run(model.bfloat16(), halved).float()
    assert (rough - exact).norm() / exact.norm() < 0.03


@every_model
def test_the_state_travels_through_a_state_dict(case):
    model, inputs = randomised(case), case.inputs()
    other = case.build().eval().to(DEVICE)
    other.load_state_dict(model.state_dict())
    assert torch.equal(run(model, inputs), run(other, inputs))


@every_model
def test_weights_can_live_on_meta(case):
    with torch.device("meta"):
        model = case.build()
    assert run(model, tuple(x.to("meta") for x in case.inputs())).device.type == "meta"


@every_model
def test_attention_is_recorded_and_rows_sum_to_one(case):
    model, inputs = randomised(case), case.inputs()
    before = run(model, inputs)
    if case.no_softmax:
        with pytest.raises(RuntimeError, match="no softmax attention ran"), record_attention(model):
            run(model, inputs)
        return
    with record_attention(model) as maps:
        during = run(model, inputs)
    assert torch.equal(before, during)
    for name, weights in maps.items():
        assert weights.ndim == 4, name
        assert weights.shape[0] % BATCH == 0, name  # windows are folded into the batch
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))


@every_model
def test_another_size_of_input_works_or_is_refused_with_both_sizes(case, unchecked):
    model, inputs = randomised(case), case.inputs()
    other = case.inputs(56, 70) if case.inputs is images else case.inputs(17, 13)
    if words := refusal(model, other):
        assert "56 x 70" in words
        assert "28 x 42" in words
        model.resize((56, 70))
    out = run(model, other)
    assert out.isfinite().all()
    assert case.inputs is not images or out.shape == run(randomised(case), inputs).shape


@every_model
def test_the_compiled_model_agrees(case, unchecked):
    """One graph, no breaks. The backend that only traces finds a break as well, in a second instead of thirty."""
    torch.compiler.reset()
    model, inputs = randomised(case), case.inputs()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(run(compiled, inputs), run(model, inputs), atol=1e-5, rtol=1e-5)


@every_model
def test_the_exported_model_agrees(case, unchecked):
    model, inputs = randomised(case), case.inputs()
    exported = torch.export.export(model, inputs).module()
    torch.testing.assert_close(run(exported, inputs), run(model, inputs), atol=1e-5, rtol=1e-5)
