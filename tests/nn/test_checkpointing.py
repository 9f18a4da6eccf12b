"""Blocks that run again in the backward pass: the same step, to the last bit, with less that is kept."""

from collections import Counter
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from attention_notes.nn.checkpointing import Blocks
from attention_notes.papers.layer_norm import PowerNorm
from tests.contract import compiles_all


class Block(nn.Module):
    """A map, a norm over the batch, and dropout: random numbers, and statistics that move in training."""

    def __init__(self, norm=nn.BatchNorm1d):
        super().__init__()
        self.map, self.norm, self.dropout = nn.Linear(6, 6), norm(6), nn.Dropout(0.4)

    def forward(self, x):
        return x + self.dropout(self.norm(self.map(x)).relu())


def stepped(model: nn.Module, x: Tensor, times: int = 3) -> dict[str, Tensor]:
    """A few steps, and what has become of parameters, gradients, statistics and the random numbers."""
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(times):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    gradients = {f"gradient of {name}": p.grad for name, p in model.named_parameters()}
    return {**model.state_dict(), **gradients, "next": torch.rand(3)}


def pair_of(norm=nn.BatchNorm1d) -> tuple[Blocks, Blocks]:
    plain = Blocks(*(Block(norm) for _ in range(3)))
    again = deepcopy(plain)
    again.checkpointed = True
    return plain, again


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, PowerNorm])
def test_steps_are_the_same_to_the_last_bit_random_numbers_and_running_statistics_too(norm):
    plain, again = pair_of(norm)
    x = torch.randn(11, 6)
    expected, found = stepped(plain, x), stepped(again, x)
    assert expected.keys() == found.keys()
    assert [name for name, tensor in expected.items() if not torch.equal(tensor, found[name])] == []


@compiles_all
def test_statistics_that_a_compiler_would_move_too_early_stay_out_of_its_graph(unchecked):
    torch.compiler.reset()
    plain, again = pair_of(PowerNorm)
    x = torch.randn(11, 6)
    for blocks in (plain, again):
        for block in blocks:
            block.dropout.p = 0.0
    expected = stepped(plain, x)
    with pytest.raises(Exception, match="compile without fullgraph"):
        torch.compile(again, backend="aot_eager", fullgraph=True)(x)
    torch.manual_seed(1)
    compiled = torch.compile(again, backend="aot_eager")
    optimizer = torch.optim.SGD(again.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        compiled(x).square().mean().backward()
        optimizer.step()
    assert [name for name, tensor in again.state_dict().items() if not torch.allclose(tensor, expected[name])] == []


def test_statistics_move_as_often_as_the_blocks_were_called_also_if_all_calls_come_before_the_gradients():
    plain, again = pair_of()
    x, y = torch.randn(2, 11, 6)
    for blocks in (plain, again):
        torch.manual_seed(1)
        (blocks(x).square().sum() + blocks(y).square().sum()).backward()
    assert again[0].norm.num_batches_tracked == 2
    assert all(torch.equal(a, b) for a, b in zip(plain.buffers(), again.buffers(), strict=True))
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(plain.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, PowerNorm])
def test_gradients_may_be_taken_twice(norm):
    plain, again = pair_of(norm)
    x = torch.randn(11, 6)
    for blocks in (plain, again):
        torch.manual_seed(1)
        loss = blocks(x).square().sum()
        loss.backward(retain_graph=True)
        loss.backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(plain.parameters(), again.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(plain.buffers(), again.buffers(), strict=True))


def test_a_block_that_fails_in_its_second_run_leaves_its_statistics_where_they_were():
    _, blocks = pair_of()
    loss = blocks(torch.randn(11, 6)).sum()
    before = {name: buffer.clone() for name, buffer in blocks.named_buffers()}

    def fail(*_):
        raise RuntimeError("the second run fails")

    blocks[1].dropout.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="the second run fails"):
        loss.backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in blocks.named_buffers())


def test_blocks_are_called_themselves_and_in_training_with_gradients_alone_once_more():
    _, blocks = pair_of()
    calls: Counter[int] = Counter()
    for i, block in enumerate(blocks):
        block.register_forward_pre_hook(lambda *_, i=i: calls.update([i]))
    x = torch.randn(11, 6)
    blocks(x).sum().backward()
    assert calls == {0: 2, 1: 2, 2: 2}
    calls.clear()
    with torch.no_grad():
        blocks(x)
    blocks.eval()(x).sum().backward()
    assert calls == {0: 2, 1: 2, 2: 2}


def test_a_slice_a_copy_and_an_insertion_are_blocks_as_well():
    _, blocks = pair_of()
    assert type(blocks[1:]) is Blocks
    assert deepcopy(blocks).checkpointed
    blocks.insert(1, nn.LayerNorm(6))
    assert blocks(torch.randn(11, 6)).shape == (11, 6)
    assert "checkpointed" not in str(blocks.state_dict().keys())
