"""What every model of the package promises; the models are those of ``tests/papers/<key>/cases.py``."""

import json
import os
import pickle
import re
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from importlib.util import find_spec

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from attention_notes import papers
from attention_notes.chapters.data.scenes import scenes
from attention_notes.chapters.segmentation import PyramidHead
from attention_notes.inspect import record_attention
from attention_notes.nn.attention import AttentionDropout
from attention_notes.nn.checkpointing import Blocks
from attention_notes.nn.drop_path import DropPath
from attention_notes.nn.mlp import MLP
from attention_notes.nn.vision import VisionModel
from attention_notes.papers.layer_norm import BatchNorm
from tests.contract import (
    BATCH,
    DEVICE,
    OTHER,
    PICTURES,
    Case,
    agrees_elsewhere,
    changed,
    clips,
    compiles_all,
    images,
    more,
    randomised,
    refusal,
    run,
    tiles,
)
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
    first, tries = run(model, inputs), 50 if dropping else 1  # of a few images, one pass often drops nothing
    assert any(not torch.equal(run(model, inputs), first) for _ in range(tries)) is dropping


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


@compiles_all
@every_model
def test_the_compiled_model_agrees(case, unchecked, patterns_once):
    """One graph, no breaks. The backend that only traces finds a break as well, in a second instead of thirty."""
    torch.compiler.reset()
    model, inputs = randomised(case), case.inputs()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(run(compiled, inputs), run(model, inputs), atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def registered_once() -> Iterator[None]:
    """The exporter to ONNX reads its table of operations once, not anew for each model, which takes half a second."""
    with pytest.MonkeyPatch.context() as patch:
        if find_spec("onnxscript"):
            from torch.onnx._internal.exporter._registration import ONNXRegistry

            patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(cache(ONNXRegistry.from_torchlib)))
        yield


@compiles_all
@every_model
def test_exported_with_a_free_batch_a_model_agrees_at_any_batch_and_elsewhere_as_onnx(
    case, tmp_path, unchecked, registered_once
):
    """Up to 7 s: the exporter takes operations apart, which alone shows whether it knows their layouts in memory."""
    model, inputs = randomised(case), case.inputs()
    free = tuple({0: torch.export.Dim("batch")} for _ in inputs)
    program = torch.export.export(model, inputs, dynamic_shapes=free)
    for given in (inputs, more(case, 7)):
        torch.testing.assert_close(run(program.module(), given), run(model, given), atol=1e-5, rtol=1e-5)
    if not case.no_onnx and find_spec("onnxruntime"):
        torch.onnx.export(program, dynamo=True, verbose=False).save(tmp_path / "model.onnx")
        agrees_elsewhere(tmp_path / "model.onnx", case, model)


class NormOverTheBatch(nn.Module):
    """A norm over all tokens of a batch behind a non-linearity, with statistics that move in training."""

    def __init__(self, before: nn.Module, dim: int) -> None:
        super().__init__()
        self.before, self.norm = before, BatchNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.before(x))


@every_model
def test_with_norms_over_the_batch_inside_a_training_step_is_the_same_eager_and_compiled(
    case, unchecked, patterns_once
):
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


# models of images and clips: what ``VisionModel`` promises

OF_PICTURES = {name: case for name, case in MODELS.items() if case.inputs in PICTURES}
VISION = {name: case for name, case in OF_PICTURES.items() if not case.no_vision}
every_vision_model = pytest.mark.parametrize("case", VISION.values(), ids=VISION.keys())


def still(model: nn.Module) -> nn.Module:
    """In training, with nothing dropped."""
    for module in model.train().modules():
        if isinstance(module, _DropoutNd | DropPath):
            module.p = 0.0
    return model


def heads(model: nn.Module) -> dict[str, nn.Module]:
    return {name: model.get_submodule(name) for name in model.head_names}


def test_a_model_of_images_or_clips_is_a_vision_model_or_says_why_not():
    assert len(VISION) > 10
    said = {name: bool(case.no_vision) for name, case in OF_PICTURES.items()}
    assert {name: not isinstance(case.build(), VisionModel) for name, case in OF_PICTURES.items()} == said


@every_vision_model
def test_training_and_evaluation_give_logits_of_the_same_kind(case):
    model, inputs = randomised(case), case.inputs()
    logits = model(*inputs)
    assert logits.shape == (BATCH, model.num_classes)
    assert model.train()(*inputs).shape == logits.shape


@every_vision_model
def test_without_a_head_a_model_gives_what_the_head_was_given(case):
    model, inputs = randomised(case), case.inputs()
    given = []
    for head in heads(model).values():
        assert head.in_features == model.num_features
        head.register_forward_hook(lambda _, inputs, __: given.append(inputs[0]))
    model(*inputs)
    assert model.reset_head(None) is model
    assert model.num_classes is None
    torch.testing.assert_close(model(*inputs), torch.stack(given).mean(0))
    assert model(*inputs).shape == (BATCH, model.num_features)


@every_vision_model
def test_a_new_head_is_the_only_thing_that_changes_and_is_of_the_old_ones_kind(case):
    model, inputs = randomised(case).double(), tuple(x.double() for x in case.inputs())
    old, before, maps = heads(model), dict(model.named_parameters()), model.features(*inputs)
    for head in old.values():
        head.requires_grad_(False)
    for classes, training in ((np.int64(7), False), (None, False), (3, True)):
        model.train(training)
        model.reset_head(classes)
        assert model.num_classes == classes
        for head in heads(model).values():
            assert head not in old.values()
            assert head.training == training
            assert all(p.dtype == torch.float64 and p.device.type == DEVICE for p in head.parameters())
            assert all(p.requires_grad for p in head.parameters())
    after = dict(model.named_parameters())
    assert after.keys() == before.keys()
    of_heads = {f"{name}.{kind}" for name in old for kind in ("weight", "bias")}
    assert {name for name, p in after.items() if p is not before[name]} == of_heads
    assert model.eval()(*inputs).shape == (BATCH, 3)
    assert all(torch.equal(a, b) for a, b in zip(maps, model.features(*inputs), strict=True))
    assert case.build().to("meta").reset_head(3).num_classes == 3


@every_vision_model
def test_a_new_head_starts_as_the_first_one_did(case):
    """Forty of each: as wide, as far out, and biases of the same kind."""
    model = case.build()
    for name in model.head_names:
        first = [case.build().get_submodule(name) for _ in range(40)]
        new = [model.reset_head(model.num_classes).get_submodule(name) for _ in range(40)]
        for kind in ("weight", "bias"):
            one, other = (torch.cat([getattr(head, kind).detach().flatten() for head in each]) for each in (first, new))
            assert bool(one.any()) is bool(other.any())
            torch.testing.assert_close(other.std(), one.std(), rtol=0.2, atol=0)
            torch.testing.assert_close(other.abs().max(), one.abs().max(), rtol=0.4, atol=0)


@every_vision_model
def test_a_number_of_classes_that_there_is_not_is_refused_before_anything_has_changed(case, unchecked):
    model = case.build()
    before = heads(model)
    for wrong in (0, -1, 2.5, "5", True):
        with pytest.raises(ValueError, match=rf"num_classes={wrong!r}: .* or None for a model without a head"):
            model.reset_head(wrong)
    assert heads(model) == before


FACTORIES = {key: family for key, family in papers.families().items() if family.size}


@pytest.mark.parametrize("key", FACTORIES)
def test_every_factory_takes_none_for_no_head_and_refuses_no_classes(key, unchecked):
    family = FACTORIES[key]
    variant = next(iter(family.variants))
    with torch.device("meta"):
        if hasattr(family.factory(variant, num_classes=7), "num_classes"):
            assert family.factory(variant, num_classes=7).num_classes == 7
            assert family.factory(variant, num_classes=None).num_classes is None
        else:
            assert family.factory(variant, num_classes=None)(*family.inputs(64)).shape[1] > 7
        for wrong in (0, -1, 2.5):
            with pytest.raises(ValueError, match=f"num_classes={wrong}: .* or None for a model without a head"):
                family.factory(variant, num_classes=wrong)
        if key in papers.keys("checkpoints.yml"):  # there is no network: it is refused before anything is fetched
            with pytest.raises(ValueError, match="num_classes=0: give a whole number"):
                family.factory(variant, num_classes=0, pretrained=True)


@every_vision_model
def test_maps_come_in_a_list_one_for_each_index_with_their_channels_first(case):
    model, inputs = randomised(case), case.inputs()
    maps = model.features(*inputs)
    assert type(maps) is list
    assert all(m.ndim == inputs[0].ndim and len(m) == BATCH for m in maps)
    assert maps[-1].shape[1] == model.num_features
    sides = [m.shape[-2:] for m in maps]
    assert sides == sorted(sides, reverse=True), "the finest first"
    last = len(maps) - 1
    for indices in ([-1], [0], [last, 0], (-last - 1, -1), [0, 0]):
        found = model.features(*inputs, indices)
        assert type(found) is list
        assert all(torch.equal(m, maps[i]) for m, i in zip(found, indices, strict=True))
    assert model.features(*inputs, []) == []


@every_vision_model
def test_maps_that_there_are_not_are_refused_with_the_range(case, unchecked):
    model, inputs = randomised(case), case.inputs()
    count = len(model.features(*inputs))
    for wrong in ([count], [0, -count - 1]):
        with pytest.raises(ValueError, match=rf"{count} maps, 0 to {count - 1}, or -{count} to -1"):
            model.features(*inputs, out_indices=wrong)
    with pytest.raises(ValueError, match=r"out_indices=1: give whole numbers in a list"):
        model.features(*inputs, out_indices=1)


@every_vision_model
def test_what_comes_after_the_last_map_that_is_asked_for_does_not_run(case):
    model, inputs = randomised(case), case.inputs()
    called: list[str] = []
    for name, module in model.named_modules():
        module.register_forward_hook(lambda *_, name=name: called.append(name))
    model.features(*inputs, [0])
    few = {*called}
    called.clear()
    model.features(*inputs, [-1])
    assert few < {*called}
    assert not {*model.head_names} & {*called}


def step(model: nn.Module, case: Case) -> tuple[dict[str, Tensor], list[int]]:
    """All that a training step with random numbers leaves behind, and how many bytes logits and maps keep for it."""
    torch.manual_seed(2)
    inputs, loss, kept = case.inputs(), 0, []
    own = {p.data_ptr() for p in model.parameters()}
    for answers in (lambda: [model(*inputs)], lambda: model.features(*inputs)):
        held: dict[int, int] = {}

        def keep(tensor: Tensor, held: dict[int, int] = held) -> Tensor:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = loss + sum(answer.square().mean() for answer in answers())
        kept.append(sum(size for place, size in held.items() if place not in own))
    loss.backward()
    gradients = {f"gradient of {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {**model.state_dict(), **gradients, "next random number": torch.rand(1)}, kept


@every_vision_model
def test_with_checkpointing_a_step_is_the_same_to_the_last_bit_and_keeps_less(case):
    """Dropping, running statistics and the random numbers that come next included; of logits and of maps."""
    plain = randomised(case).train()
    for module in plain.modules():
        if isinstance(module, nn.Dropout | DropPath):
            module.p = 0.3
    again = deepcopy(plain)
    assert again.checkpointing() is again
    again = pickle.loads(pickle.dumps(deepcopy(again)))
    (expected, much), (found, less) = step(plain, case), step(again, case)
    assert [small / large < 0.9 for small, large in zip(less, much, strict=True)] == [True, True]
    assert expected.keys() == found.keys()
    assert [name for name, tensor in expected.items() if not torch.equal(tensor, found[name])] == []


@every_vision_model
def test_checkpointing_calls_each_block_itself_once_more_in_training_and_never_otherwise(case):
    model, inputs = case.build().train(), case.inputs()
    blocks = [block for part in model.modules() if isinstance(part, Blocks) for block in part]
    calls: Counter[nn.Module] = Counter()
    for block in blocks:
        block.register_forward_pre_hook(lambda block, _: calls.update([block]))

    def often(loss: bool) -> list[int]:
        calls.clear()
        out = model(*inputs)
        if loss:
            out.square().sum().backward()
        return [calls[block] for block in blocks]

    assert len(blocks) > 1
    once, twice = [1] * len(blocks), [2] * len(blocks)
    assert often(loss=True) == once, "off by default"
    model.checkpointing()
    assert often(loss=True) == twice
    model.eval()
    assert often(loss=True) == once
    model.train()
    with torch.no_grad():
        assert often(loss=False) == once
    model.checkpointing(False)
    assert often(loss=True) == once


@compiles_all
@pytest.mark.parametrize("name", ["vit pooled", "swin", "resnet"])
def test_checkpointing_and_maps_work_under_the_compiler(name, unchecked, patterns_once):
    """Dropout, stochastic depth and batch norms under what traces gradients, which the debugging backend does not."""
    case = VISION[name]
    torch.compiler.reset()
    plain = case.build().train()
    again, inputs = deepcopy(plain).checkpointing().eval(), case.inputs()
    maps = torch.compile(again.features, backend="eager", fullgraph=True)(*inputs, [0, -1])
    for ours, theirs in zip(again.features(*inputs, [0, -1]), maps, strict=True):
        torch.testing.assert_close(theirs, ours)
    compiled = torch.compile(again.train(), backend="aot_eager", fullgraph=True)
    for model in (plain, compiled):
        torch.manual_seed(1)
        model(*inputs).square().mean().backward()
    for (key, ours), theirs in zip(plain.named_parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(theirs.grad, ours.grad, msg=key)
    for (key, ours), theirs in zip(plain.named_buffers(), again.buffers(), strict=True):
        torch.testing.assert_close(theirs, ours, msg=key)


# what has several axes and is not decayed
PLACES = re.compile(
    r"(^|\.)(positions|registers|token|distillation|table|position|logit_scale)$|\.bias\.network\.|\.positions\.convolution\."
)


@every_vision_model
def test_groups_hold_each_parameter_once_and_decay_kernels_alone(case):
    model = case.build()
    model.get_submodule(model.head_names[0]).requires_grad_(False)
    groups = model.parameter_groups(0.1, weight_decay=0.2, layer_decay=0.8)
    held = [p for group in groups for p in group["params"]]
    assert {*held} == {p for p in model.parameters() if p.requires_grad}
    assert len(held) == len({*held})
    decayed = {p for group in groups if group["weight_decay"] for p in group["params"]}
    assert {group["weight_decay"] for group in groups} == {0.0, 0.2}
    kernels = {n for n, p in model.named_parameters() if p.requires_grad and p.ndim > 1 and not PLACES.search(n)}
    assert {n for n, p in model.named_parameters() if p in decayed} == kernels
    torch.optim.AdamW(groups).step()


@every_vision_model
def test_rates_of_groups_grow_from_the_stem_to_the_head_by_one_factor_a_block(case):
    model = case.build()
    blocks = [block for part in model.modules() if isinstance(part, Blocks) for block in part]
    rate = {p: group["lr"] for group in model.parameter_groups(0.5, layer_decay=0.8) for p in group["params"]}
    for i, block in enumerate(blocks, start=1):
        for p in block.parameters():
            assert rate[p] == pytest.approx(0.5 * 0.8 ** (len(blocks) + 1 - i))
    for head in heads(model).values():
        assert {rate[p] for p in head.parameters()} == {0.5}
    assert min(rate.values()) == pytest.approx(0.5 * 0.8 ** (len(blocks) + 1)), "the stem"
    assert {group["lr"] for group in model.parameter_groups(0.5)} == {0.5}


TAKES_ANY_SIZE = {"vit": False, "deit": False, "swin": False, "layer_norm": False}
TAKES_ANY_SIZE |= {"pvt": True, "resnet": True, "cbam": True, "non_local": True}


@pytest.mark.parametrize("name", VISION)
def test_another_size_is_refused_with_the_way_out_by_models_of_one_size_and_taken_by_all_others(name, unchecked):
    case = VISION[name]
    model, (size, words) = randomised(case), OTHER[case.inputs]
    pixels = case.inputs(*size)[0].shape[-2:]
    said = refusal(model, case.inputs(*size))
    if (key := name.split()[0]) in TAKES_ANY_SIZE:
        assert bool(said) is not TAKES_ANY_SIZE[key]
    assert not said or [word for word in (*words, f"resize({tuple(pixels)})") if word not in said] == []
    assert model.resize(pixels) is model
    assert model(*case.inputs(*size)).isfinite().all()


@every_vision_model
@pytest.mark.parametrize("kind", [tuple, list, np.array, torch.Size, lambda size: tuple(map(np.int64, size))])
def test_at_its_own_size_resizing_changes_nothing(case, kind):
    model, inputs = randomised(case), case.inputs()
    parameters, before = dict(model.named_parameters()), model(*inputs)
    assert model.resize(kind(inputs[0].shape[-2:])) is model
    assert dict(model.named_parameters()).keys() == parameters.keys()
    assert [name for name, p in model.named_parameters() if p is not parameters[name]] == []
    assert torch.equal(model(*inputs), before)


@every_vision_model
def test_nothing_is_dropped_from_attentions_unless_asked_for(case):
    assert {part.p for part in case.build().modules() if isinstance(part, AttentionDropout)} <= {0.0}


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


@every_model
def test_a_token_that_is_not_in_the_vocabulary_is_refused_by_its_number(case, unchecked):
    model, inputs = randomised(case), case.inputs()
    if DEVICE != "cpu":
        pytest.skip("a look-up outside of a table stops the device")
    for i, given in enumerate(inputs):
        if given.dtype == torch.int64:
            unknown = given.clone()
            unknown[(0,) * given.ndim] = 10**6
            said = refusal(model, (*inputs[:i], unknown, *inputs[i + 1 :]))
            assert re.search("1,?000,?000", said), said
