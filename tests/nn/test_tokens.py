"""A table of tokens is PyTorch's, and says what it has not."""

import pytest
import torch
from torch import nn

from attention_notes.nn.tokens import TokenTable


def test_it_is_pytorchs_table():
    torch.manual_seed(3)
    ours = TokenTable(7, 5, padding_idx=2)
    torch.manual_seed(3)
    theirs = nn.Embedding(7, 5, padding_idx=2)
    tokens = torch.tensor([[0, 2, 6], [1, 1, 5]])
    assert torch.equal(ours(tokens), theirs(tokens))
    ours(tokens).sum().backward()
    assert not ours.weight.grad[2].any()


@pytest.mark.parametrize(("tokens", "words"), [([3, 7], "from 3 to 7, .* has 7, from 0 to 6"), ([-1], "from -1 to -1")])
def test_what_it_has_not_is_named(tokens, words):
    with pytest.raises(ValueError, match=words):
        TokenTable(7, 5)(torch.tensor(tokens))
