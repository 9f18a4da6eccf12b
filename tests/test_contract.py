"""What every model of the package promises; the models are those of ``tests/papers/<key>/cases.py``."""

import json
import os
import subprocess
import sys
import warnings
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from attention_notes import papers
from attention_notes.chapters.data.scenes import scenes
from attention_notes.chapters.segmentation import PyramidHead
from attention_notes.inspect import record_attention
from attention_notes.nn.drop_path import DropPath
from attention_notes.nn.mlp import MLP
from attention_notes.papers.layer_norm import BatchNorm
from tests.contract import BATCH, DEVICE, OTHER, Case, changed, clips, images, randomised, refusal, run, tiles
from tests.discovery import of_papers
from tests.planting import ROOT

MODELS = {name: case for _, name, case in of_papers("cases", "MODELS")}
every_model = pytest.mark.parametrize("case", MODELS.values(), ids=MODELS.keys())


def test_every_paper_is_held_to_the_contract_or_says_why_not():
    without = {key for key, _, _ in of_papers("cases", "NO_MODEL")}
    assert {key for key, _, _ in of_papers("cases", "MODELS")} | without == {*papers.keys()}


@every_model
def test_the_output_depends_on_the_input(case):
    model, inputs = randomised(case), case.inputs()
    assert (run(model, inputs)[0] - run(model, changed(inputs))[0]).abs().max() > 1e-3


@every_model
def test_samples_of_a_batch_do_not_mix(case):
    model = randomised(case).double()  # in single precision a sum in another order is nearly as far away
    inputs = tuple(x.double() if x.is_floating_point() else x for x in case.inputs())
    torch.testing.assert_close(run(model, inputs)[1:], run(model, changed(inputs))[1:], atol=1e-10, rtol=1e-10)
    alone = torch.cat([run(model, tuple(x[i : i + 1] for x in inputs)) for i in range(BATCH)])
    torch.testing.assert_close(run(model, inputs), alone, atol=1e-10, rtol=1e-10)


@every_model
def test_every_parameter_gets_a_gradient(case):
    model = randomised(case).train()
    for module in model.modules():
        if isinstance(module, DropPath):
            module.p = 0.0  # which could skip a branch for all samples
    run(model, case.inputs()).square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@every_model
def test_evaluation_is_deterministic(case):
    model, inputs = randomised(case), case.inputs()
    assert torch.equal(run(model, inputs), run(model, inputs))


@every_model
def test_training_drops_and_evaluation_does_not(case):
    model, inputs = randomised(case).train(), case.inputs()
    dropping = any(module.p > 0 for module in model.modules() if isinstance(module, _DropoutNd | DropPath))
    assert torch.equal(run(model, inputs), run(model, inputs)) is not dropping


@every_model
def test_bfloat16_agrees_to_its_precision(case):
    if case.no_bfloat16:
        pytest.skip(case.no_bfloat16)
    apart = []
    for _ in range(5):  # one model may happen to answer with differences of large numbers
        model, inputs = randomised(case), case.inputs()
        exact = run(model, inputs)
        halved = tuple(x.bfloat16() if x.is_floating_point() else x for x in inputs)
        apart.append((run(model.bfloat16(), halved).float() - exact).norm() / exact.norm())
    assert torch.stack(apart).median() < 0.03


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
        assert weights.ndim == 4, f"{name}: hand attention b h n d, one head too"
        assert weights.shape[0] % BATCH == 0, name  # windows are folded into the batch
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))


@every_model
def test_another_size_of_input_works_or_is_refused_with_both_sizes(case, unchecked):
    model, inputs = randomised(case), case.inputs()
    size, words = OTHER[case.inputs]
    other = case.inputs(*size)
    if said := refusal(model, other):
        assert [word for word in words if word not in said] == []
        if not hasattr(model, "resize"):
            return
        model.resize(size)
    out = run(model, other)
    assert out.isfinite().all()
    assert case.inputs not in (images, clips, tiles) or out.shape[:2] == run(randomised(case), inputs).shape[:2]


PYRAMIDS = {name: pyramid for _, name, pyramid in of_papers("cases", "PYRAMIDS")}


@pytest.mark.parametrize(("build", "widths"), PYRAMIDS.values(), ids=PYRAMIDS.keys())
def test_maps_at_strides_4_to_32_of_an_image_that_is_not_square_feed_one_head(build, widths):
    scene, names = scenes(2, size=(64, 96), seed=0)
    model, head = build().eval(), PyramidHead(widths, dim=12, num_classes=11)
    maps = model.features(scene)
    assert [m.shape[1:] for m in maps] == [(w, 64 // s, 96 // s) for w, s in zip(widths, (4, 8, 16, 32), strict=True)]
    F.cross_entropy(head(maps, (64, 96)), names).backward()
    ended = ("head", "norm", "pooling")  # what comes after the last map belongs to the classifier
    silent = [n for n, p in model.named_parameters() if p.grad is None and not n.startswith(ended)]
    assert silent == []


def more(case: Case, batch: int) -> tuple[Tensor, ...]:
    """Inputs of another batch, of other numbers."""
    drawn = [case.inputs() for _ in range(-(-batch // BATCH))]
    return tuple(torch.cat(parts)[:batch] for parts in zip(*drawn, strict=True))


@every_model
def test_every_module_is_called_as_often_whatever_the_batch_and_gets_all_of_it(case):
    model, calls = randomised(case), []

    def seen(module: nn.Module, given: tuple, _: object) -> None:
        sizes = [len(x) for x in given if isinstance(x, Tensor) and x.ndim]
        calls.append((id(module), sizes))

    for module in model.modules():
        module.register_forward_hook(seen)
    found = []
    with torch.no_grad():
        for times in (1, 600):
            calls.clear()
            run(model, tuple(x.repeat(times, *(1,) * (x.ndim - 1)) for x in case.inputs()))
            found.append([*calls])
    assert [module for module, _ in found[0]] == [module for module, _ in found[1]]
    for (_, few), (_, many) in zip(*found, strict=True):
        assert [a * 600 for a in few] == many or few == many  # what does not depend on the inputs has no batch


@every_model
def test_a_trace_of_one_batch_runs_at_another(case, unchecked):
    model = randomised(case)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sizes that are asked for are constants of a trace
        traced = torch.jit.trace(model, case.inputs(), check_trace=False)
        other = more(case, 7)
        try:
            found = run(traced, other)
        except RuntimeError as error:
            pytest.fail(f"the batch became a constant of the trace: take it from x.shape, not from len(x)\n{error}")
        torch.testing.assert_close(found, run(model, other), atol=1e-5, rtol=1e-5)


@every_model
def test_the_compiled_model_agrees(case, unchecked):
    """One graph, no breaks. The backend that only traces finds a break as well, in a second instead of thirty."""
    torch.compiler.reset()
    model, inputs = randomised(case), case.inputs()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(run(compiled, inputs), run(model, inputs), atol=1e-5, rtol=1e-5)


@every_model
def test_the_exported_model_agrees(case, unchecked):
    model, inputs = randomised(case), case.inputs()
    exported = torch.export.export(model, inputs).module()
    torch.testing.assert_close(run(exported, inputs), run(model, inputs), atol=1e-5, rtol=1e-5)


class NormOverTheBatch(nn.Module):
    """A norm over all tokens of a batch behind a non-linearity, with statistics that move in training."""

    def __init__(self, before: nn.Module, dim: int) -> None:
        super().__init__()
        self.before, self.norm = before, BatchNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.before(x))


@every_model
def test_with_norms_over_the_batch_inside_a_training_step_is_the_same_eager_and_compiled(case, unchecked):
    """Also what the norms remember of the batch. Models with perceptrons get one; others have their own or none."""
    torch.compiler.reset()
    torch.manual_seed(0)
    eager = case.build().to(DEVICE).train()
    for module in [*eager.modules()]:
        if isinstance(module, MLP):
            module.activation = NormOverTheBatch(module.activation, module.expand.out_features).to(DEVICE)
        if isinstance(module, _DropoutNd | DropPath):
            module.p = 0.0
    other, inputs = deepcopy(eager), case.inputs()
    compiled = torch.compile(other, backend="eager")
    for model in (eager, compiled):
        run(model, inputs).square().mean().backward()
    for (name, ours), theirs in zip(eager.named_parameters(), other.parameters(), strict=True):
        if ours.grad is not None:
            torch.testing.assert_close(theirs.grad, ours.grad, atol=1e-4, rtol=1e-3, msg=name)
    for (name, ours), theirs in zip(eager.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-4, msg=name)


def test_wrapped_for_two_processes_every_module_is_called_once_and_the_gradients_are_those_of_the_whole_batch(tmp_path):
    """DDP and FSDP2 of every model, on gloo. Only two real processes show what a wrapper sees (20 s)."""
    words = [sys.executable, "-m", "tests.distributed"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(
            [*words, str(rank), str(tmp_path / "store")], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        for rank in (0, 1)
    ]
    said, _ = both[0].communicate()
    assert [process.wait() for process in both] == [0, 0]
    found = json.loads(said.splitlines()[-1])
    assert found.keys() == {f"{name}, {wrapper}" for name in MODELS for wrapper in ("DDP", "FSDP2")}
    assert {name: row["otherwise"] for name, row in found.items() if row["otherwise"]} == {}, "called otherwise"
    assert {name: row["without"] for name, row in found.items() if row["without"]} == {}, "no gradient"
    assert {name: row["apart"] for name, row in found.items() if not row["apart"] < 1e-8} == {}
