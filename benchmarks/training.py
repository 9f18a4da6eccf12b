"""What the training loop adds to forward, backward and step, and how many pictures a core prepares."""

import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from attention_notes.training.data import Order, Sets, Stored, open_sets, training_batches
from attention_notes.training.engine import engine
from attention_notes.training.loop import Run, Running, feed
from attention_notes.training.recipe import load_recipe
from benchmarks.timing import Clock, interleaved, interval, ratio

# a ViT of 2.7M parameters on images of 32 x 32 pixels
CHANGES = (
    "options={patch: 4, depth: 6, dim: 192, heads: 3}",
    "data={name: cifar10, size: 32, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}",
    "optimise.ema=null",
)
STEPS = 1  # of a sample: a machine that drifts is fairer to short ones, taken in turns


def loop(device: torch.device, *, batch: int, seconds: float, rounds: int = 1000) -> dict[str, Any]:
    """One row: steps of the loop, with its loader in the same process, beside bare ones on a batch that is there."""
    recipe = load_recipe("digits", [*CHANGES, f"optimise.batch={batch}", "optimise.epochs=1000"])
    drawn = torch.Generator().manual_seed(0)
    images = torch.randint(256, (50 * batch, 3, 32, 32), generator=drawn, dtype=torch.uint8)
    train = Stored(images, torch.arange(len(images)) % 10, [str(i) for i in range(10)])
    with tempfile.TemporaryDirectory() as out:
        run = Run(engine(device=device.type), recipe, Running(quiet=True), Path(out), Sets(train, train), dry=False)
        given, steps = feed(lambda step: run.batches(step, end=10**6), 0, 1, print), count()
        run.wrapped.train()

        def looped() -> None:
            for _ in range(STEPS):
                run.step(next(steps), given)

        x, labels, _ = next(iter(run.batches(0, end=1)))
        x, labels = x.to(run.fabric.device), labels.to(run.fabric.device)

        def bare() -> None:
            for _ in range(STEPS):
                loss = torch.nn.functional.cross_entropy(run.model(x), labels, label_smoothing=0.1)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
                run.optimizer.step()
                run.optimizer.zero_grad(set_to_none=True)

        works = {"loop": looped, "bare": bare, "bare again": bare}
        samples = interleaved(works, Clock(run.fabric.device), rounds=rounds, seconds=seconds)
    return {
        "batch": batch,
        "threads": torch.get_num_threads(),
        "images a second": batch * STEPS / interval(samples["loop"]).median,
        "bare by loop": ratio(samples["bare"], samples["loop"]),
        "control": ratio(samples["bare again"], samples["bare"]),
    }


def pictures(*, seconds: float, count: int = 64) -> dict[str, Any]:
    """How many pictures of ImageNet's usual size one process reads and augments a second, by DeiT's recipe."""
    recipe, drawn = load_recipe("deit_s"), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as root:
        for part in ("train", "val"):
            folder = Path(root, part, "one")
            folder.mkdir(parents=True)
            for i in range(count):
                smooth = Image.fromarray(drawn.integers(0, 256, (24, 32, 3), np.uint8)).resize((500, 375))
                smooth.save(folder / f"{i}.jpg", quality=90)
        images = open_sets(recipe, Path(root)).train
        order = Order(count, batch=count, repeats=1, seed=0)
        loader = training_batches(
            recipe, images, order, steps=range(10**6), rank=0, processes=1, accumulate=1, workers=0, pinned=False
        )
        taken, begun = 0, time.perf_counter()
        for x, _, _ in loader:
            taken += len(x)
            if time.perf_counter() - begun > seconds:
                break
        return {"pictures a second and core": taken / (time.perf_counter() - begun)}
