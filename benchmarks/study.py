"""Same data, same budget: models of as many parameters, each at its own rate, over seeds; ``make study`` runs it all.

What was trained already is not trained again: a run leaves its row in its folder.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from attention_notes.inspect import count_activations, count_macs, count_parameters
from attention_notes.training.data import Images, evaluation_batches, open_sets
from attention_notes.training.log import rows_of
from attention_notes.training.loop import Running, build, train
from attention_notes.training.recipe import Recipe, load_recipe
from benchmarks.arms import ARMS, MODELS, SIDE, TEACHERS
from benchmarks.provenance import commit, provenance, write_record
from benchmarks.timing import Clock, interleaved, ratio

RECIPE = Path(__file__).with_name("study.yml")
RESULTS = Path(__file__).with_name("records")
RATES = (1e-3, 2e-3, 4e-3)  # tried first; while the best one is at an end, the next one there is tried too
SEEDS = range(5)


@dataclass(frozen=True)
class Place:
    """Where images and runs lie, and how they are run.

    Args:
        data: the folder of the images.
        runs: a folder for the runs.
        changes: of the recipe, such as ``"optimise.epochs=1"``.
        device: where models are trained.
        threads: of a process.
    """

    data: Path
    runs: Path
    changes: tuple[str, ...] = ()
    device: str = "cpu"
    threads: int = 1

    def recipe(self, arm: str, *, lr: float, seed: int) -> Recipe:
        """What a run is trained by."""
        changes = [*self.changes, f"optimise.lr={lr}", f"seed={seed}", f"options={json.dumps(described(ARMS[arm]))}"]
        if arm in TEACHERS:
            name, distil = TEACHERS[arm]
            weights = str(self.folder(name, lr=self.rates(name)[name], seed=SEEDS[0]) / "weights.safetensors")
            changes.append(f"distil={json.dumps({**distil, 'weights': weights})}")
        return load_recipe(RECIPE, changes)

    def folder(self, arm: str, *, lr: float, seed: int) -> Path:
        """Where a run lies."""
        return self.runs / f"{arm.replace(' ', '')}-{lr:g}-{seed}"

    def done(self, arm: str, *, lr: float, seed: int) -> dict[str, Any] | None:
        """The row of a run that came to its end, and by the same recipe."""
        path = self.folder(arm, lr=lr, seed=seed) / "row.json"
        row = json.loads(path.read_text()) if path.exists() else None
        return row if row and row["digest"] == self.recipe(arm, lr=lr, seed=seed).digest else None

    def rows(self, *arms: str) -> list[dict[str, Any]]:
        """The runs of some arms that came to their end."""
        found = [json.loads(path.read_text()) for path in sorted(self.runs.glob("*/row.json"))]
        return [row for row in found if row["arm"] in arms and self.done(row["arm"], lr=row["lr"], seed=row["seed"])]

    def rates(self, *arms: str) -> dict[str, float]:
        """The rate of each arm that is best on the images held out to choose by, with the first seed."""
        first = [row for row in self.rows(*arms) if row["seed"] == SEEDS[0]]
        best = {row["arm"]: row for row in sorted(first, key=lambda row: row["validation"][-1])}
        return {arm: row["lr"] for arm, row in best.items()}


def described(arm: Any) -> Any:
    """What makes an arm, as plain data: a run by other sizes is another run."""
    if isinstance(arm, partial):
        return {"of": [described(value) for value in (arm.func, *arm.args)], **described(arm.keywords)}
    if isinstance(arm, Mapping):
        return {name: described(value) for name, value in arm.items()}
    if isinstance(arm, list | tuple):
        return [described(value) for value in arm]
    return arm.__name__ if callable(arm) else arm


def run(place: Place, arm: str, lr: float, seed: int) -> None:
    """Train one, and write its row: by epochs what is right of the images to choose by, then of the test images."""
    torch.set_num_threads(place.threads)
    recipe, folder = place.recipe(arm, lr=lr, seed=seed), place.folder(arm, lr=lr, seed=seed)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    how = Running(device=place.device, keep=1, log_every=10**6, quiet=True)
    started, found = time.perf_counter(), dict[str, Any]()
    try:
        train(recipe, out=folder, data=place.data, running=how, model=ARMS[arm])
        logged = rows_of(folder / "log.jsonl")
        found["validation"] = [row["top1"] for row in logged if "top1" in row]
        found["loss"] = [row["loss"] for row in logged if "loss" in row]
        found["test"] = accuracy(recipe, arm, folder / "weights.safetensors", tests(place), place.device)
    except FloatingPointError as error:
        found = {"validation": [0.0], "loss": [], "test": 0.0, "diverged": str(error)}
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    names = {"arm": arm, "lr": lr, "seed": seed, "digest": recipe.digest, "commit": commit()}
    part = folder / "row.part"
    part.write_text(json.dumps({**names, **found, "seconds": time.perf_counter() - started}))
    part.replace(folder / "row.json")


def tests(place: Place) -> Images:
    """The images that nothing is chosen by."""
    return open_sets(load_recipe(RECIPE, [*place.changes, "data.validation=0"]), place.data).held_out


@torch.no_grad()
def accuracy(recipe: Recipe, arm: str, weights: Path, images: Images, device: str) -> float:
    """The share of images that the trained model names right."""
    from safetensors.torch import load_file

    model = build(recipe, classes=len(images.classes), make=ARMS[arm])
    model.load_state_dict(load_file(weights))
    model.eval().to(device)
    right = 0
    batches = evaluation_batches(recipe, images, batch=500, rank=0, processes=1, workers=0, pinned=False)
    for x, labels, _ in batches:
        answers = model(x.to(device)).cpu()
        right += int((answers.argmax(1) == labels).sum())
    return right / len(images)


def tuned(place: Place, arms: Sequence[str], jobs: Any) -> None:
    """Try rates for each arm, with the first seed, until the best one has a worse one on either side."""
    wanted = {arm: set(RATES) for arm in arms}
    while todo := [(arm, lr) for arm, rates in wanted.items() for lr in sorted(rates)]:
        finish(jobs, [(place, arm, lr, SEEDS[0]) for arm, lr in todo])
        tried = {arm: sorted({row["lr"] for row in place.rows(arm)}) for arm in arms}
        best = place.rates(*arms)
        further = {arm: _beyond(tried[arm], best[arm]) for arm in arms}
        wanted = {arm: {lr} for arm, lr in further.items() if lr is not None}


def _beyond(tried: list[float], best: float) -> float | None:
    """The next rate, where the best one is the lowest or the highest of those that were tried."""
    if best == tried[-1]:
        return best * 2
    return best / 2 if best == tried[0] else None


def finish(jobs: Any, runs: Iterable[tuple[Place, str, float, int]]) -> None:
    """Train those that are not trained, and tell of each."""
    missing = [one for one in runs if one[0].done(one[1], lr=one[2], seed=one[3]) is None]
    for (place, arm, lr, seed), done in [(one, jobs.submit(run, *one)) for one in missing]:
        done.result()
        row = place.done(arm, lr=lr, seed=seed) or {}
        right = f"{row['validation'][-1]:.3f}, of the test images {row['test']:.3f}"
        print(f"{arm}, rate {lr:g}, seed {seed}: {right}, {row['seconds']:.0f} s", flush=True)


def baselines(place: Place) -> dict[str, float]:
    """What needs no network: the commonest class, the nearest neighbour, logistic regression; on the test images."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    sets = open_sets(load_recipe(RECIPE, [*place.changes, "data.validation=0"]), place.data)
    (x, y), (x_test, y_test) = (_matrix(images) for images in (sets.train, sets.held_out))
    nearest = KNeighborsClassifier(1).fit(x, y).score(x_test, y_test)
    linear = LogisticRegression(max_iter=300, C=0.01).fit(x, y).score(x_test, y_test)
    commonest = float((y_test == y.mode().values).float().mean())
    return {"the commonest class": commonest, "the nearest neighbour": nearest, "logistic regression": linear}


def _matrix(images: Images) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.stack([images.image(index).flatten() for index in range(len(images))])
    return rows / 255, torch.tensor(images.labels)


def cost(device: str, *, seconds: float) -> dict[str, dict[str, Any]]:
    """Of each model: parameters, MACs and activations of an image, and how much longer a step takes than ViT's."""
    clock, found = Clock(torch.device(device)), {}
    torch.set_num_threads(1)
    x, labels = torch.randn(64, 1, SIDE, SIDE, device=device), torch.arange(64, device=device) % 10
    models = {arm: ARMS[arm](num_classes=10).to(device) for arm in MODELS}
    works = {
        arm: lambda model=model: torch.nn.functional.cross_entropy(model(x), labels).backward()
        for arm, model in models.items()
    }
    samples = interleaved(works, clock, rounds=20, seconds=seconds)
    for arm, model in models.items():
        model.eval()
        one = x[:1]
        counts = {
            "parameters": count_parameters(model),
            "macs": count_macs(model, one),
            "activations": count_activations(model, one),
        }
        found[arm] = {**counts, "takes": ratio(samples[arm], samples["ViT"])}
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is not trained yet, and write the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.study", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the files of Fashion-MNIST")
    parser.add_argument("--runs", type=Path, default=Path(".study"), help="folder of the runs")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change the recipe")
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=list(ARMS), metavar="ARM")
    parser.add_argument("--seconds", type=float, default=240, help="for timing, which wants a machine that rests")
    parser.add_argument("--results", type=Path, help="file of the record; that of the page when not given")
    options = parser.parse_args(arguments)
    threads = max(1, torch.get_num_threads() // options.jobs)
    place = Place(options.data, options.runs, tuple(options.set), options.device, threads)
    started = time.perf_counter()
    learners = [arm for arm in options.arms if arm not in TEACHERS]
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as jobs:
        for arms in (learners, [arm for arm in options.arms if arm in TEACHERS]):
            tuned(place, arms, jobs)
            best = place.rates(*arms)
            finish(jobs, [(place, arm, best[arm], seed) for arm in arms for seed in SEEDS])
    path = options.results or RESULTS / f"study_{torch.device(options.device).type}.json"
    record = {
        **provenance(torch.device(options.device), started),
        "recipe": load_recipe(RECIPE, options.set).decides,
        "arms": {arm: described(ARMS[arm]) for arm in options.arms},
        "rates": place.rates(*options.arms),
        "rows": place.rows(*options.arms),
        "baselines": baselines(place),
        "cost": cost(options.device, seconds=options.seconds),
    }
    write_record(path, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
