"""Recorders in threads, nested, and ended in any order: each has its own maps, and PyTorch is as it was."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import hypothesis
import pytest
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.modules import module as hooks_of_all
from torch.overrides import BaseTorchFunctionMode, _get_current_function_mode_stack

from attention_notes.inspect import count_macs, record_attention
from attention_notes.inspect.attention_maps import Seen, see
from attention_notes.papers.swin import swin
from attention_notes.papers.vit import vit
from tests.contract import randomised
from tests.test_contract import MODELS

SMALL = {"dim": 12, "depth": 2, "heads": 3, "hidden": 10, "patch": 7, "image_size": 14, "num_classes": 5}
Maps = dict[str, Tensor]


def small() -> nn.Module:
    return vit("Ti/16", **SMALL).eval()


def images(batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 14, 14)


def untouched(*models: nn.Module) -> bool:
    """Whether this thread's PyTorch and the models are as if nobody had ever looked."""
    hooks = [h for m in models for part in m.modules() for h in (*part._forward_hooks, *part._forward_pre_hooks)]
    everywhere = [*hooks_of_all._global_forward_hooks, *hooks_of_all._global_forward_pre_hooks]
    return (
        F.scaled_dot_product_attention is torch._C._nn.scaled_dot_product_attention
        and torch.backends.mha.get_fastpath_enabled()
        and not any((hooks, everywhere, _get_current_function_mode_stack()))
    )


def recorded(model: nn.Module, x: Tensor) -> Maps:
    with record_attention(model) as maps, torch.no_grad():
        model(x)
    return maps


def assert_same(found: Maps, expected: Maps) -> None:
    assert list(found) == list(expected)
    for name, weights in expected.items():
        assert torch.equal(found[name], weights), name


def in_threads(*jobs: Callable[[], None]) -> None:
    """Run jobs at once, and raise what the first that failed raised."""
    failed: list[BaseException] = []
    ready = threading.Barrier(len(jobs))

    def run(job: Callable[[], None]) -> None:
        try:
            ready.wait()
            job()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


@pytest.mark.parametrize("shared", [True, False], ids=["the same model", "two models"])
def test_two_threads_that_see_at_once_see_what_one_alone_sees(shared):
    first = randomised(MODELS["swin"])
    second = first if shared else randomised(MODELS["swin v2"])
    pairs = [(model, torch.randn(3, 3, 28, 42)) for model in (first, second)]
    expected = [see(model, x) for model, x in pairs]

    def job(model: nn.Module, x: Tensor, alone: Seen) -> None:
        for _ in range(4):
            seen = see(model, x)
            assert torch.equal(seen.output, alone.output)
            assert_same(*({n: layer.weights for n, layer in s.layers.items()} for s in (seen, alone)))
            for name, layer in seen.layers.items():
                assert torch.equal(layer.map((5, 9)).places, alone.layers[name].map((5, 9)).places)
        assert untouched()

    in_threads(*(partial(job, *pair, alone) for pair, alone in zip(pairs, expected, strict=True)))
    assert untouched(first, second)


def test_who_only_predicts_while_another_thread_records_gets_the_same_numbers_at_every_call():
    model, other, x = small(), small(), images()
    layer = nn.TransformerEncoderLayer(16, 2, 20, batch_first=True).eval()
    tokens, done = torch.randn(2, 5, 16), threading.Event()
    with torch.no_grad():
        expected = [model(x), other(x), layer(tokens)]  # the last by PyTorch's own fast path, to the last bit

    def record() -> None:
        try:
            for _ in range(20):
                assert list(recorded(model, x)) == ["blocks.0.attention", "blocks.1.attention"]
        finally:
            done.set()

    def predict() -> None:
        calls = 0
        while not done.is_set() or calls < 20:
            with torch.no_grad():
                assert all(map(torch.equal, [model(x), other(x), layer(tokens)], expected))
            assert untouched()
            calls += 1

    in_threads(record, predict)
    assert untouched(model, other)


def test_a_model_that_runs_in_another_thread_only_is_not_recorded_and_this_is_said():
    model, x = small(), images()
    with (
        pytest.raises(RuntimeError, match=r"did not run inside .*, or in another thread only: enter the context in"),
        record_attention(model) as maps,
    ):
        in_threads(lambda: model(x))
    assert maps == {}


def looking(model: nn.Module) -> Iterator[Maps]:
    """A generator that holds a recorder open until it is closed."""
    with record_attention(model) as maps:
        yield maps


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(4, 12)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x)[:, None].chunk(3, -1)
        return F.scaled_dot_product_attention(q, k, v)[:, 0]


def numbered(name: str, time: int) -> str:
    return f"{name}#{time + 1}" if time else name


PARTS = ("0", "0.0", "0.1.0", "1")


@st.composite
def orders(draw: Callable) -> list[tuple[int, str, int]]:
    """Which of eight recorders begins or ends, each at a part of its own, and how many calls come next.

    A number stands for the beginning of a recorder where it is first, and for its end where it is second. One that
    begins is called at least once before another begins or ends, for it refuses to have seen nothing.
    """
    parts = draw(st.lists(st.sampled_from(PARTS), min_size=8, max_size=8))
    steps: list[tuple[int, str, int]] = []
    for recorder in draw(st.permutations([*range(8)] * 2)):
        begins = all(recorder != before for before, _, _ in steps)
        steps.append((recorder, parts[recorder], draw(st.integers(begins, 2))))
    return steps


def in_order(steps: list[tuple[int, str, int]], both: nn.Module) -> None:
    """Begin and end recorders over a model, its parts and another, and call both in between: each has its own maps."""
    opened, ended, given = {}, [], []
    for number, part, calls in steps:
        if number in opened:
            recorder, *kept = opened.pop(number)
            recorder.close()
            ended.append((part, *kept, len(given)))
        else:
            recorder = looking(both.get_submodule(part))
            opened[number] = recorder, len(given), next(recorder)
        for _ in range(calls):
            given.append(torch.randn(1, 3, 4))
            both[0](given[-1]), both[1](given[-1])
    with record_attention(both) as alone:
        for x in given:
            both[0](x), both[1](x)
    assert len(ended) == 8
    for part, first, maps, last in ended:
        inside = [name for name in ("0.0", "0.1.0", "1") if f"{name}.".startswith(f"{part}.")]
        expected = {
            numbered(name.removeprefix(part).removeprefix("."), time): alone[numbered(name, first + time)]
            for time in range(last - first)
            for name in inside
        }
        assert_same(maps, expected)
    assert untouched()


@hypothesis.settings(max_examples=50, deadline=None, derandomize=True, database=None)
@hypothesis.given(one=orders(), other=orders())
def test_eight_recorders_over_a_model_its_parts_and_another_may_end_in_any_order_in_two_threads(one, other):
    """A hundred orders, in two threads at once over one model: fewer rarely meet (4 s)."""
    both = nn.ModuleList([nn.Sequential(Attends(), nn.Sequential(Attends(), nn.Tanh())), Attends()])
    in_threads(partial(in_order, one, both), partial(in_order, other, both))
    assert untouched(both)


@contextmanager
def held(mode: BaseTorchFunctionMode) -> Iterator[None]:
    with mode:
        yield


@pytest.mark.parametrize("seed", range(10))
def test_recorders_may_end_in_any_order_among_modes_of_others(seed):
    """A mode that ends takes away the one on top: its own, also when recorders began after it."""
    chance, model, x = random.Random(seed), small(), images()
    stacks: list[ExitStack] = []
    modes = [BaseTorchFunctionMode() for _ in range(3)]
    for mode in modes:  # these nest; the recorders begin anywhere among them
        for _ in range(chance.randrange(3)):
            stacks.append(ExitStack())
            stacks[-1].enter_context(record_attention(model))
        mode.__enter__()
    with torch.device("cpu"):
        stacks.append(ExitStack())
        stacks[-1].enter_context(record_attention(model))
        model(x)
    for mode in reversed(modes):
        chance.shuffle(stacks)
        for _ in range(chance.randrange(1 + len(stacks))):
            stacks.pop().close()
        stack = _get_current_function_mode_stack()
        assert stack[-1] is mode
        mode.__exit__(None, None, None)
    for stack in stacks:
        stack.close()
    assert untouched(model)


def test_a_recorder_that_ends_in_another_thread_ends_there_and_its_own_thread_is_clean_after_the_next():
    model, x = small(), images()
    recorder = looking(model)
    maps = next(recorder)
    model(x)
    in_threads(recorder.close)
    model(x)
    assert list(maps) == ["blocks.0.attention", "blocks.1.attention"]
    recorded(model, x)
    assert untouched(model)


class Interrupted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyboardInterrupt


def test_nothing_is_left_after_an_interrupt():
    model = nn.Sequential(small().blocks[0], Interrupted())
    with pytest.raises(KeyboardInterrupt):
        see(model, torch.randn(1, 5, 12))
    assert untouched(model)


@pytest.mark.parametrize("seed", range(5))
def test_a_model_in_training_that_threads_see_at_once_is_back_in_training_part_by_part(seed):
    chance = random.Random(seed)
    model = swin("swin_t", dim=6, depths=(1, 1), heads=(1, 1), patch=2, window=3, image_size=(14, 10), num_classes=5)
    for part in model.modules():
        part.training = chance.random() < 0.5
    modes, x = [part.training for part in model.modules()], torch.randn(1, 3, 14, 10)
    stage = model.stages[0]
    tokens = torch.randn(1, 7, 5, 6)
    jobs = [partial(see, model, x), partial(see, model, x), partial(see, stage.blocks, tokens)]
    in_threads(*(lambda job=job: [job() for _ in range(5)] for job in jobs))
    assert [part.training for part in model.modules()] == modes


def test_counting_in_one_thread_is_no_business_of_another():
    model, x = small(), images(1)
    cost = count_macs(model, x)
    calls = {"inside": 0}

    class Watched(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            calls["inside"] += 1
            assert not hooks_of_all._global_forward_hooks
            assert not hooks_of_all._global_forward_pre_hooks
            return model(x)

    def job() -> None:
        for _ in range(5):
            assert count_macs(Watched(), x) == cost

    in_threads(job, job)
    assert calls["inside"] == 10
    assert untouched(model)
