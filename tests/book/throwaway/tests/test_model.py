"""The averaging classifier."""

import torch
from attention_notes.papers.averaging import Averaging


def test_every_token_gets_the_same():
    layer, x = Averaging(4), torch.randn(2, 3, 4)
    added = layer(x) - x
    torch.testing.assert_close(added, added[:, :1].expand_as(added))
