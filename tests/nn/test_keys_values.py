"""Keys and values that are kept: in parts as at once, with and without gradients, in any order of the texts."""

import pytest
import torch

from attention_notes.nn.keys_values import ROOM, KeysValues

B, H, D = 3, 2, 5


def _drawn(tokens, **options):
    return torch.randn(B, H, tokens, D, **options), torch.randn(B, H, tokens, D, **options)


def _in_parts(k, v, parts):
    kept, at = KeysValues(), 0
    for part in parts:
        got = kept.extend(k[..., at : at + part, :], v[..., at : at + part, :])
        at += part
        assert kept.length == at
        for whole, so_far in zip((k, v), got, strict=True):
            torch.testing.assert_close(so_far, whole[..., :at, :], rtol=0, atol=0)
    return kept, got


@pytest.mark.parametrize("recorded", [False, True])
def test_tokens_that_come_in_parts_are_those_that_come_at_once(recorded):
    parts = (7, 1, 1, ROOM, 1, 2 * ROOM, 3)
    k, v = _drawn(sum(parts))
    with torch.set_grad_enabled(recorded):
        _in_parts(k, v, parts)


@pytest.mark.parametrize("recorded", [False, True])
def test_texts_go_on_in_another_order_and_what_was_handed_out_before_stays(recorded):
    (k, v), (more, most), rows = _drawn(4), _drawn(1), torch.tensor([2, 0, 2, 1, 1])
    with torch.set_grad_enabled(recorded):
        kept, (before, _) = _in_parts(k, v, (3, 1))
        kept.reorder(rows)
        keys, values = kept.extend(more[rows], most[rows])
    torch.testing.assert_close(keys, torch.cat([k, more], -2)[rows], rtol=0, atol=0)
    torch.testing.assert_close(values, torch.cat([v, most], -2)[rows], rtol=0, atol=0)
    torch.testing.assert_close(before, k, rtol=0, atol=0)


def test_gradients_reach_every_token_that_is_kept():
    k, v = _drawn(3, requires_grad=True)
    kept = KeysValues()
    kept.extend(k[..., :2, :], v[..., :2, :])
    kept.reorder(torch.tensor([1, 1, 0]))
    keys, values = kept.extend(k[..., 2:, :], v[..., 2:, :])
    (keys.sum() + values.sum()).backward()
    seen = torch.tensor([[1, 1, 1], [2, 2, 1], [0, 0, 1]])[:, None, :, None].expand_as(k)
    torch.testing.assert_close(k.grad, seen.to(k.dtype))
    torch.testing.assert_close(v.grad, seen.to(v.dtype))


def test_what_was_written_without_gradients_goes_on_with_them_and_back():
    k, v = _drawn(6)
    kept = KeysValues()
    with torch.no_grad():
        kept.extend(k[..., :2, :], v[..., :2, :])
    later = k[..., 2:4, :].clone().requires_grad_()
    keys, _ = kept.extend(later, v[..., 2:4, :])
    with torch.no_grad():
        kept.extend(k[..., 4:, :], v[..., 4:, :])
    keys.pow(2).sum().backward()
    torch.testing.assert_close(later.grad, 2 * k[..., 2:4, :])


def test_nothing_that_is_kept_can_be_reordered():
    kept = KeysValues()
    kept.reorder(torch.tensor([1, 0]))
    assert kept.length == 0
