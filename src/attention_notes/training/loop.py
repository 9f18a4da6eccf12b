"""The loop: steps, evaluations and checkpoints of a recipe, resumed at the step where it ended."""

import inspect
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from attention_notes.nn.protocols import Make
from attention_notes.registry import model as registered
from attention_notes.training.checkpoints import newest, prune, write
from attention_notes.training.data import (
    Made,
    Order,
    Sets,
    Some,
    evaluation_batches,
    number,
    open_sets,
    training_batches,
)
from attention_notes.training.engine import (
    engine,
    model_state,
    optimizer_state,
    set_model_state,
    set_optimizer_state,
    spread_again,
)
from attention_notes.training.log import Log
from attention_notes.training.objective import Criterion, mixed, teacher_of
from attention_notes.training.optimise import Average, optimizer_of, rate, set_rate
from attention_notes.training.recipe import Recipe


@dataclass(frozen=True)
class Running:
    """How a recipe is run here, which does not decide what comes out.

    Args:
        per_process: images that a process takes at once; a step is then several such parts. All at once if None.
        workers: processes that load images, for each process that trains.
        strategy: ``ddp`` or ``fsdp``.
        precision: ``float32`` or ``bfloat16``.
        device: ``cpu``, ``cuda`` or ``mps``; the best that there is if None.
        compile: by ``torch.compile``.
        checkpointing: compute each block again in the backward pass instead of keeping what is inside.
        save_every: steps from one checkpoint to the next; an epoch if None.
        log_every: steps from one line of the log to the next.
        evaluate_every: epochs from one evaluation to the next; the last step is always evaluated.
        keep: how many checkpoints stay.
        last_step: where to stop early; the end of the recipe if None.
        quiet: without a bar of progress.
    """

    per_process: int | None = None
    workers: int = 0
    strategy: str = "ddp"
    precision: str = "float32"
    device: str | None = None
    compile: bool = False
    checkpointing: bool = False
    save_every: int | None = None
    log_every: int = 50
    evaluate_every: int = 1
    keep: int = 2
    last_step: int | None = None
    quiet: bool = False

    def __post_init__(self) -> None:
        for name in ("per_process", "save_every", "log_every", "evaluate_every", "keep"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be 1 or more")
        if self.workers < 0:
            raise ValueError(f"workers={self.workers} must be 0 or more")


@dataclass(frozen=True)
class Outcome:
    """Where a training ended: steps, and the share of held-out images that is named right, also by the average."""

    steps: int
    top1: float | None
    average_top1: float | None


def train(
    recipe: Recipe, *, out: Path, data: Path | None = None, running: Running | None = None, model: Make | None = None
) -> Outcome:
    """Train as a recipe says, from the last checkpoint in ``out`` where there is one.

    In ``out`` come ``checkpoints/``, ``log.jsonl``, ``curves.svg``, and at the end ``weights.safetensors``, which
    ``attention-notes predict --weights`` takes, with ``average.safetensors`` where the recipe has an average.

    Args:
        recipe: from ``load_recipe``.
        out: a folder for this run alone.
        data: the folder of the images; the digits need none.
        running: how it is run here.
        model: makes the model from ``num_classes=``, in place of the one that the recipe names; a ``VisionModel``.

    Raises:
        ValueError: if something in the recipe, the data or ``out`` does not fit; before the first step where it can be.
        FloatingPointError: if the loss is not finite.
    """
    running = running or Running()
    with _restored():
        sets = open_sets(recipe, data)
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"{out} cannot be the folder of a run: {error.strerror}") from None
        return _run(recipe, running, sets, out, model=model)


def dry_run(recipe: Recipe, *, data: Path | None = None, running: Running | None = None) -> Outcome:
    """Take three steps of four images a process, with all that the recipe names, and leave nothing behind.

    After the second step it stops, and goes on from its checkpoint. Without ``data``, pictures are made in the place of
    a folder's; a teacher is as it is at birth.
    """
    running = running or Running()
    processes = int(os.environ.get("WORLD_SIZE", 1))
    small = replace(recipe, optimise=replace(recipe.optimise, batch=4 * processes, epochs=3.0, warmup_epochs=1.0))
    small = replace(small, augment=replace(small.augment, repeats=1))
    with _restored(), _one_folder() as out:
        if recipe.data.name == "folder" and data is None:
            sets = Sets(*(Made(recipe.data.size, classes=1000, count=count) for count in (4 * processes, 5)))
        else:
            whole = open_sets(recipe, data)
            sets = Sets(Some(whole.train, range(4 * processes)), Some(whole.held_out, range(5)))
        how = replace(running, per_process=2, save_every=1, quiet=True)
        _run(small, replace(how, last_step=2), sets, out, dry=True)
        return _run(small, how, sets, out, dry=True)


def _run(
    recipe: Recipe, running: Running, sets: Sets, out: Path, *, dry: bool = False, model: Make | None = None
) -> Outcome:
    fabric = engine(strategy=running.strategy, precision=running.precision, device=running.device)
    return Run(fabric, recipe, running, out, sets, dry=dry, model=model).go()


@contextmanager
def _one_folder() -> Iterator[Path]:
    """A temporary folder, the same for all processes of this machine."""
    torchrun = os.environ.get("TORCHELASTIC_RUN_ID"), os.environ.get("MASTER_PORT")
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        with tempfile.TemporaryDirectory() as made:
            yield Path(made)
        return
    out = Path(tempfile.gettempdir()) / "-".join(["attention-notes", *(word or "0" for word in torchrun)])
    out.mkdir(exist_ok=True)
    try:
        yield out
    finally:
        if os.environ.get("LOCAL_RANK") == "0":
            shutil.rmtree(out, ignore_errors=True)


@contextmanager
def _restored() -> Iterator[None]:
    """The caller's random numbers go on afterwards as if nothing had been drawn, and signals mean what they meant."""
    drawn, drawn_by_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    heard = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(drawn)
            np.random.set_state(drawn_by_numpy)  # noqa: NPY002
            if heard is not None and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGCHLD, heard)


def build(recipe: Recipe, *, classes: int, make: Callable[..., Any] | None = None) -> Any:
    """The recipe's model at birth, or that of ``make``; the same on every machine that draws the same numbers.

    Raises:
        ValueError: if there is no such model, or if it cannot have such sizes.
    """
    torch.manual_seed(number(recipe.seed, 2))
    model = _named(recipe, classes) if make is None else make(num_classes=classes)
    if recipe.distil is not None and hasattr(model, "separate"):
        model.separate = True
    return model


def _named(recipe: Recipe, classes: int) -> Any:
    one = registered(recipe.model)
    if one.size is None:
        raise ValueError(f"{one.name} is no model of images, which is what can be trained here")
    options: dict[str, Any] = {"num_classes": classes}
    if "image_size" in inspect.signature(one.family.factory).parameters:
        options["image_size"] = recipe.data.size
    if len(recipe.data.mean) != 3:
        options["channels"] = len(recipe.data.mean)
    try:
        return one.family.factory(one.variant, **{**options, **recipe.options})
    except TypeError as error:
        raise ValueError(f"{one.name} with {', '.join({**options, **recipe.options})}: {error}") from None


_DIVERGED = "the loss or a weight is not finite"


class Run:
    """One training in one process."""

    def __init__(
        self,
        fabric: Any,
        recipe: Recipe,
        running: Running,
        out: Path,
        sets: Sets,
        *,
        dry: bool,
        model: Make | None = None,
    ) -> None:
        self.fabric, self.recipe, self.running, self.out = fabric, recipe, running, out
        self.images, self.held_out = sets.train, sets.held_out
        self.classes = len(self.images.classes)
        self.processes, self.first = fabric.world_size, fabric.global_rank == 0
        self.per_process, self.accumulate = _parts(recipe.optimise.batch, self.processes, running.per_process)
        self.order = Order(
            len(self.images), batch=recipe.optimise.batch, repeats=recipe.augment.repeats, seed=recipe.seed
        )
        self.total = max(1, round(recipe.optimise.epochs * self.order.steps))
        self.save_every = running.save_every or self.order.steps
        made = build(recipe, classes=self.classes, make=model)
        if running.checkpointing:
            made.checkpointing(True)
        self.teacher = teacher_of(recipe, classes=self.classes, trained=not dry)
        if self.teacher is not None:
            self.teacher.to(fabric.device)
        self.wrapped = fabric.setup_module(made)
        self.model: Any = self.wrapped.module
        if running.compile:
            self.model.compile()
        self.optimizer = optimizer_of(self.model, recipe.optimise)
        self.stepped = fabric.setup_optimizers(self.optimizer)
        self.average = Average(self.model, recipe.optimise.ema) if recipe.optimise.ema is not None else None
        self.criterion = Criterion(recipe, self.teacher)
        self.checkpoints = out / "checkpoints"
        self.told = set[str]()
        self.saved: int | None = None

    def say(self, words: str) -> None:
        """Tell it once, whatever the number of processes."""
        if self.first:
            print(words, file=sys.stderr, flush=True)

    def go(self) -> Outcome:
        """From the last checkpoint to the end."""
        begin = self.resume()
        end = min(self.total, self.running.last_step or self.total)
        self.log = Log(self.out if self.first else None, step=begin)
        found: dict[str, float] = {}
        bar = self.bar(begin)
        try:
            found = self.steps(begin, end, bar)
            if begin >= end:
                self.say(f"{self.out} has all {end} steps already")
                found = self.evaluate()
        finally:
            bar.close()
            self.log.close()
        if end == self.total:
            self.finish()
        return Outcome(max(begin, end), found.get("top1"), found.get("average_top1"))

    def bar(self, begin: int) -> Any:
        """The bar of progress; hidden where nobody watches."""
        from tqdm import tqdm

        hidden = self.running.quiet or not self.first or not sys.stderr.isatty()
        return tqdm(total=self.total, initial=begin, unit="step", disable=hidden, smoothing=0.05)

    def steps(self, begin: int, end: int, bar: Any) -> dict[str, float]:
        """All steps, and what the last evaluation found."""
        found: dict[str, float] = {}
        given = feed(partial(self.batches, end=end), begin, self.accumulate, self.say)
        total, count = torch.zeros((), device=self.fabric.device), 0
        since = time.perf_counter()
        self.wrapped.train()
        for step in range(begin, end):
            total, count = total + self.step(step, given), count + 1
            done = step + 1
            bar.update()
            epoch = done / self.order.steps
            last, ends = done == end, done % self.order.steps == 0
            saves = last or done % self.save_every == 0
            evaluates = last or (ends and round(epoch) % self.running.evaluate_every == 0)
            if saves or evaluates or done % self.running.log_every == 0:
                loss = self.fabric.all_reduce(total / count, reduce_op="mean").item()
                seconds = time.perf_counter() - since
                row = {"step": done, "epoch": round(epoch, 4), "loss": loss, "lr": self.rate(step)}
                speed = count * self.recipe.optimise.batch / seconds
                self.log.add({**row, "images_per_second": round(speed, 1)})
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                if not math.isfinite(loss):
                    raise FloatingPointError(self.diverged(done))
                total, count = torch.zeros_like(total), 0
                if evaluates:
                    found = self.evaluate()
                    self.log.add({"step": done, "epoch": round(epoch, 4), **found})
                    self.log.draw()
                if saves:
                    self.save(done)
                since = time.perf_counter()
        return found

    def diverged(self, step: int) -> str:
        """What to say of a loss that is not a number."""
        kept = f"the last checkpoint is of step {self.saved}" if self.saved else "there is no checkpoint yet"
        return (
            f"{_DIVERGED} at step {step}; {kept}. A lower optimise.lr, a longer optimise.warmup_epochs or "
            "optimise.clip=1 helps where the model is right"
        )

    def rate(self, step: int) -> float:
        """The rate of a step."""
        return rate(self.recipe.optimise, step, steps_per_epoch=self.order.steps)

    def batches(self, step: int, *, end: int) -> Any:
        """What is loaded from a step on."""
        return training_batches(
            self.recipe,
            self.images,
            self.order,
            steps=range(step, end),
            rank=self.fabric.global_rank,
            processes=self.processes,
            accumulate=self.accumulate,
            workers=self.running.workers,
            pinned=self.fabric.device.type == "cuda",
        )

    def step(self, step: int, given: Iterator[Any]) -> Tensor:
        """Take one, and return this process's part of its loss."""
        set_rate(self.optimizer, self.rate(step))
        total = torch.zeros((), device=self.fabric.device)
        for part in range(self.accumulate):
            images, labels, told = next(given)
            self.tell(told)
            images, labels = (x.to(self.fabric.device, non_blocking=True) for x in (images, labels))
            torch.manual_seed(number(self.recipe.seed, 3, step, self.fabric.global_rank, part))
            images, targets = mixed(self.recipe, images, labels, classes=self.classes)
            with self.fabric.no_backward_sync(self.wrapped, enabled=part < self.accumulate - 1):
                loss = self.criterion(self.wrapped, images, targets) / self.accumulate
                self.fabric.backward(loss)
            total += loss.detach()
        if self.recipe.optimise.clip is not None:
            self.fabric.clip_gradients(
                self.wrapped, self.stepped, max_norm=self.recipe.optimise.clip, error_if_nonfinite=False
            )
        self.stepped.step()
        self.stepped.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update()
        return total

    def tell(self, told: list[str]) -> None:
        """Of pictures that could not be read, each once."""
        for words in told:
            if words not in self.told:
                self.told.add(words)
                print(f"left out, and another taken in its place: {words}", file=sys.stderr, flush=True)

    def evaluate(self) -> dict[str, float]:
        """On the held-out images: top-1, top-5 where there are more than five classes, and the loss."""
        found = self.judged()
        if self.average is not None:
            with self.average.applied():
                found |= {f"average_{name.removeprefix('held_out_')}": value for name, value in self.judged().items()}
        return found

    @torch.no_grad()
    def judged(self) -> dict[str, float]:
        """By the weights that the model has now."""
        self.wrapped.eval()
        sums = torch.zeros(4, device=self.fabric.device, dtype=torch.float32 if self.mps() else torch.float64)
        for images, labels, _ in feed(self.held_out_batches, 0, 1, self.say):
            images, labels = (x.to(self.fabric.device, non_blocking=True) for x in (images, labels))
            logits, real = self.wrapped(images).float(), labels >= 0
            if not real.any():
                continue
            logits, labels = logits[real], labels[real]
            ranks = (logits > logits.gather(1, labels[:, None])).sum(1)
            loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
            sums += torch.stack([(ranks < 1).sum(), (ranks < 5).sum(), loss, real.sum()]).to(sums)
        self.wrapped.train()
        spread_again(self.model)
        first, five, loss, count = self.fabric.all_reduce(sums, reduce_op="sum").tolist()
        shares = {"top1": first / count, "top5": five / count, "held_out_loss": loss / count}
        return {name: value for name, value in shares.items() if name != "top5" or self.classes > 5}

    def held_out_batches(self, begin: int) -> Any:
        """What is loaded of the held-out images from a batch on."""
        return evaluation_batches(
            self.recipe,
            self.held_out,
            batch=min(self.per_process, -(-len(self.held_out) // self.processes)),
            rank=self.fabric.global_rank,
            processes=self.processes,
            workers=self.running.workers,
            pinned=self.fabric.device.type == "cuda",
            begin=begin,
        )

    def mps(self) -> bool:
        """Whether the device has no float64."""
        return bool(self.fabric.device.type == "mps")

    def save(self, step: int) -> None:
        """Write a checkpoint; where there is no room, tell so and go on, as long as another one is there."""
        weights = model_state(self.model)
        remembered, plain = optimizer_state(self.model, self.optimizer)
        parts = {"model": weights, "optimizer": remembered}
        if self.average is not None:
            with self.average.applied():
                names = {name for name, _ in self.model.named_parameters()}
                parts["average"] = {name: t for name, t in model_state(self.model).items() if name in names}
        failed = ""
        if self.first and not all(bool(t.isfinite().all()) for t in weights.values()):
            failed = _DIVERGED
        elif self.first:
            try:
                state = {"optimizer": plain, "recipe": self.recipe.decides, "digest": self.recipe.digest}
                write(self.checkpoints, step, parts, state)
                prune(self.checkpoints, keep=self.running.keep)
            except OSError as error:
                failed = str(error)
        failed = self.fabric.broadcast(failed)
        if failed == _DIVERGED:
            raise FloatingPointError(self.diverged(step))
        if not failed:
            self.saved = step
        elif self.saved is None or step == self.total:
            raise OSError(f"{failed}; make room, and start again: it goes on from the last checkpoint")
        else:
            self.say(f"{failed}; the last one is of step {self.saved}, and the training goes on")

    def resume(self) -> int:
        """Take up the last checkpoint that can be read; how many steps it has."""
        found = newest(self.checkpoints)
        if found is None:
            return 0
        step, state, parts, wrong = found
        for words in wrong:
            self.say(f"{words}; taking the one before")
        if state.get("digest") != self.recipe.digest:
            odd = ", ".join(_differs(state.get("recipe", {}), self.recipe.decides))
            raise ValueError(f"{self.out} holds another run, which differs in {odd}: choose another --out")
        set_model_state(self.model, parts["model"])
        set_optimizer_state(self.model, self.optimizer, parts["optimizer"], state["optimizer"])
        if self.average is not None:
            with self.average.applied():
                set_model_state(self.model, {**parts["model"], **parts["average"]})
        self.saved = step
        self.say(f"resumed after step {step} of {self.total}")
        return step

    def finish(self) -> None:
        """Write the weights by themselves."""
        weights = model_state(self.model)
        averaged = None
        if self.average is not None:
            with self.average.applied():
                averaged = model_state(self.model)
        for name, state in (("weights", weights), ("average", averaged)):
            if self.first and state is not None:
                part = self.out / f".{name}.part"
                save_file({key: tensor.contiguous() for key, tensor in state.items()}, part)
                part.replace(self.out / f"{name}.safetensors")
        self.fabric.barrier()


def _parts(batch: int, processes: int, per_process: int | None) -> tuple[int, int]:
    """How many images a process takes at once, and how often in a step."""
    if batch % processes:
        raise ValueError(f"optimise.batch is {batch}, which {processes} processes cannot share alike")
    own = batch // processes
    at_once = min(per_process or own, own)
    if own % at_once:
        fits = [n for n in range(1, own + 1) if own % n == 0]
        near = min(fits, key=lambda n: abs(n - at_once))
        raise ValueError(f"per_process is {at_once}, and a process has {own} images a step: {near} would divide them")
    return at_once, own // at_once


def _differs(a: Any, b: Any, where: str = "") -> Iterator[str]:
    """The names under which two mappings differ, with the two values."""
    if not isinstance(a, dict) or not isinstance(b, dict):
        if a != b:
            yield f"{where} ({a} there, {b} here)"
        return
    for name in sorted(a.keys() | b.keys()):
        yield from _differs(a.get(name), b.get(name), f"{where}.{name}".lstrip("."))


TRIES = 3


def _iterator(loader: Any) -> Iterator[Any]:
    """What is loaded, where a worker's death is an error of the next batch.

    PyTorch would raise it wherever the process is, in the middle of a step; ``_restored`` gives the signal back.
    """
    made = iter(loader)
    if hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return made


def feed(batches: Callable[[int], Any], begin: int, accumulate: int, say: Callable[[str], None]) -> Iterator[Any]:
    """Batches without end of a loader; where its workers die, of a new one that goes on at the same place."""
    given, failures = 0, 0
    while True:
        step, part = divmod(given, accumulate)
        try:
            for batch in islice(_iterator(batches(begin + step)), part, None):
                yield batch
                given, failures = given + 1, 0
            return
        except (RuntimeError, ConnectionError, EOFError) as error:
            if isinstance(error, RuntimeError) and not str(error).startswith("DataLoader worker"):
                raise
            failures += 1
            if failures > TRIES:
                raise RuntimeError(
                    f"workers that load images died {failures} times at the same place; often memory is short: "
                    "give fewer --workers"
                ) from error
            say(f"a worker that loads images died, and others take its place ({' '.join(str(error).split())})")
