"""Counting leaves no trace, and misses nothing that PyTorch would hide."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks_of_all
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from attention_notes.inspect import count_activations, count_macs
from attention_notes.papers.cbam import cbam

COUNTS = (count_macs, count_activations)


class Watching(nn.Module):
    """Notes what is there while it is counted."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(0.5))
        self.hooks: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        every = (hooks_of_all._global_forward_hooks, hooks_of_all._global_forward_pre_hooks)
        self.hooks.append(any([*every, *(m._forward_hooks for m in self.modules())]))
        return self.net(x)


@pytest.mark.parametrize("count", COUNTS)
def test_a_model_in_training_its_statistics_and_the_next_random_numbers_are_as_they_were(count):
    model, x = Watching().train(), torch.randn(3, 6)
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    expected = 3 * 6 * 5 if count is count_macs else 3 * 5
    assert count(model, x) == expected
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.hooks == [False]
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not _get_current_function_mode_stack()
    assert not _get_current_dispatch_mode_stack()


@pytest.mark.parametrize("count", COUNTS)
def test_what_fails_leaves_no_trace_either(count):
    model = cbam("cbam_resnet18", width=16, num_classes=5).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        count(nn.Sequential(model, nn.Linear(3, 3)), torch.randn(3, 3, 32, 32))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not _get_current_function_mode_stack()
    assert not _get_current_dispatch_mode_stack()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("need_weights", [True, False])
def test_multihead_attention_is_counted_by_hand_on_no_fast_path(need_weights, training):
    b, n, c = 2, 5, 12
    layer, x = nn.MultiheadAttention(c, 2, batch_first=True).train(training), torch.randn(b, n, c)
    assert count_macs(layer, x, x, x, need_weights=need_weights) == b * (4 * n * c * c + 2 * n * n * c)
    assert count_activations(layer, x, x, x, need_weights=need_weights) == b * n * 4 * c
