"""A run can be repeated, keeps float32 honest, and gets somewhere."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from attention_notes.chapters.train import fit, start


def test_the_same_seed_gives_the_same_numbers_everywhere():
    draws = []
    for seed in (3, 3, 4):
        start(seed)
        draws.append((random.random(), np.random.rand(), torch.rand(()).item()))  # noqa: NPY002
    assert draws[0] == draws[1]
    assert all(a != b for a, b in zip(draws[0], draws[2], strict=True))


def test_float32_stays_float32_on_a_gpu():
    torch.backends.cuda.matmul.allow_tf32 = True
    start()
    assert torch.backends.cuda.matmul.allow_tf32 is False
    assert torch.backends.cudnn.allow_tf32 is False


def test_fit_is_a_plain_loop_bit_for_bit():
    def begin():
        start(seed=3)
        model = nn.Sequential(nn.Linear(5, 7), nn.Dropout(0.3), nn.Tanh(), nn.Linear(7, 1))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.03, weight_decay=0.2)
        return model, optimizer, torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)

    def loss(model, x, y):
        return (model(x) - y).square().mean()

    batches = [(x, x.sum(1, keepdim=True)) for x in torch.randn(20, 11, 5)]
    ours, optimizer, schedule = begin()
    losses = fit(ours, loss, batches, optimizer=optimizer, schedule=schedule)
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
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), plain.parameters(), strict=True))


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
