"""A run can be repeated, keeps float32 honest, leaves frozen norms alone, and gets somewhere."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from attention_notes.chapters.train import fit, start, started
from attention_notes.papers.layer_norm import BatchNorm


@pytest.fixture(autouse=True)
def as_before():
    """``start`` is for a process of its own; these tests share one."""
    with started():
        yield


def drawn() -> tuple[float, float, float]:
    return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002


def test_the_same_seed_gives_the_same_numbers_everywhere():
    draws = []
    for seed in (3, 3, 4):
        start(seed)
        draws.append(drawn())
    assert draws[0] == draws[1]
    assert all(a != b for a, b in zip(draws[0], draws[2], strict=True))


def test_float32_stays_float32_on_a_gpu():
    torch.backends.cuda.matmul.allow_tf32 = True
    start()
    assert torch.backends.cuda.matmul.allow_tf32 is False
    assert torch.backends.cudnn.allow_tf32 is False


def test_a_run_inside_of_another_program_is_that_of_start_and_leaves_everything_as_it_was():
    start(seed=5)
    torch.set_num_threads(2)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    drawn()
    expected = drawn()
    start(seed=5)
    torch.set_num_threads(2)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    drawn()
    with started(seed=3) as device:
        inside = drawn()
        assert torch.get_num_threads() == 1
    with pytest.raises(KeyError), started(seed=4):
        raise KeyError
    assert torch.get_num_threads() == 2
    assert torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.allow_tf32
    assert drawn() == expected
    assert start(seed=3) == device
    assert drawn() == inside


def test_fit_is_a_plain_loop_bit_for_bit():
    def begin():
        start(seed=3)
        model = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Dropout(0.3), nn.Tanh(), nn.Linear(7, 1))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.03, weight_decay=0.2)
        return model, optimizer, torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)

    def loss(model, x, y):
        return (model(x) - y).square().mean()

    batches = [(x, x.sum(1, keepdim=True)) for x in torch.randn(20, 11, 5)]
    ours, optimizer, schedule = begin()
    losses = fit(ours.eval(), loss, batches[:15], optimizer=optimizer, schedule=schedule)
    losses += fit(ours, loss, batches[15:], optimizer=optimizer, schedule=schedule)
    plain, optimizer, schedule = begin()
    expected = []
    for batch in batches:
        optimizer.zero_grad()
        value = loss(plain, *batch)
        value.backward()
        optimizer.step()
        schedule.step()
        expected.append(value.item())
    assert losses == expected
    assert ours.state_dict().keys() == plain.state_dict().keys()
    assert all(torch.equal(ours.state_dict()[name], tensor) for name, tensor in plain.state_dict().items())


class Tuned(nn.Module):
    """A body with norms that remember and with dropout, and a head."""

    def __init__(self, norm=nn.BatchNorm1d):
        super().__init__()
        self.first, self.second = (
            nn.Sequential(nn.Linear(5, 5, bias=False), norm(5), nn.Dropout(0.5)) for _ in range(2)
        )
        self.head = nn.Linear(5, 1)

    def forward(self, x):
        return self.head(self.second(self.first(x)))


def tune(model: nn.Module) -> dict[str, bool]:
    """Which tensors a few steps change; those of the two bodies see all their dropout."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    batches = [(x,) for x in torch.randn(3, 11, 5)]
    fit(model, lambda m, x: (m(x) - 1).square().mean(), batches, optimizer=optimizer)
    assert not any(part.training for part in model.modules())
    return {name: not torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, BatchNorm])
def test_norms_whose_parameters_are_frozen_keep_their_statistics_and_the_others_move(norm):
    model = Tuned(norm)
    model.first.requires_grad_(False)
    for _ in range(2):  # also in the model that fit has left in evaluation mode
        moved = tune(model)
        assert not any(changed for name, changed in moved.items() if name.startswith("first"))
        assert all(changed for name, changed in moved.items() if not name.startswith("first"))


def test_parts_in_evaluation_mode_of_a_model_in_training_mode_stay_so():
    model = Tuned()
    model.first.eval()
    seen = []
    model.first[2].register_forward_hook(lambda part, x, y: seen.append(torch.equal(x[0], y)))
    moved = tune(model)
    assert not any(changed for name, changed in moved.items() if name.startswith("first.1.running"))
    assert moved["first.1.weight"]
    assert moved["second.1.running_mean"]
    assert seen == [True] * 3, "nothing is dropped there"


def test_a_model_that_is_all_in_evaluation_mode_trains():
    assert all(tune(Tuned().eval()).values())


def test_without_batches_there_are_no_losses():
    model = nn.Linear(5, 1)
    assert fit(model, lambda m, x: m(x).sum(), [], optimizer=torch.optim.SGD(model.parameters(), lr=0.1)) == []


def test_fit_takes_a_step_for_each_batch_and_leaves_the_model_ready():
    start()
    model = nn.Sequential(nn.Linear(5, 1), nn.Dropout(0.1))
    truth = torch.randn(5, 1)
    batches = [(x, x @ truth) for x in torch.randn(200, 11, 5)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    losses = fit(model, lambda m, x, y: (m(x) - y).square().mean(), batches, optimizer=optimizer, schedule=schedule)
    assert len(losses) == 200
    assert losses[-1] < losses[0] / 2
    assert not model.training
    assert schedule.get_last_lr() == [pytest.approx(0.1 / 201)]
