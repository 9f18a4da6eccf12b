"""Attention of short sequences: another way to the same numbers."""

import pytest
import torch

from attention_notes.papers.vit import SelfAttention
from attention_notes.papers.vit.short import ShortAttention


def test_short_attention_is_written_out_in_training_and_gives_the_same():
    short = ShortAttention(12, heads=3).eval()
    fused = SelfAttention(12, heads=3).eval()
    fused.load_state_dict(short.state_dict())
    x, found = torch.randn(2, 7, 12, requires_grad=True), []
    assert torch.equal(short(x), fused(x))
    for model, in_one in ((short.train(), False), (fused.train(), True)):
        out = model(x)
        assert ("ScaledDotProduct" in names_of(out)) == in_one
        found.append((out, *torch.autograd.grad(out.square().sum(), [x, *model.parameters()])))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("tokens", "dtype"), [(65, torch.float32), (7, torch.bfloat16)])
def test_longer_sequences_and_other_numbers_keep_the_fused_kernel_in_training(tokens, dtype):
    x = torch.randn(2, tokens, 12, dtype=dtype)
    assert "ScaledDotProduct" in names_of(ShortAttention(12, heads=3).to(dtype).train()(x))


def test_short_attention_drops_weights_in_training_only():
    short, x = ShortAttention(12, heads=3, attention_dropout=0.5).eval(), torch.randn(2, 7, 12)
    assert torch.equal(short(x), short(x))
    assert not torch.equal(short.train()(x), short(x))


def names_of(out):
    """The operations that made a tensor, by autograd's names."""
    todo, seen = [out.grad_fn], []
    while todo:
        node = todo.pop()
        seen.append(node.name())
        todo += [before for before, _ in node.next_functions if before is not None]
    return " ".join(seen)
