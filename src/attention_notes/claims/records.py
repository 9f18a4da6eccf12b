"""What the recorder kept of trained statements: their values over seeds and instruction sets.

``make evidence`` writes ``papers/<key>/evidence.json``: for every run the instruction set, by how much the seeds were
shifted, the machine, the commit, and each value that a check of a trained statement was given.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from statistics import fmean, stdev
from typing import Any

from attention_notes.claims.measures import Measure

RUNS, SEEDS, INSTRUCTIONS, MARGIN = 12, 8, 3, 4.0  # at least so many; a bound's distance in standard deviations


@dataclass(frozen=True)
class Spread:
    """The values of one measurement over all recorded runs."""

    values: tuple[int | float, ...]
    low: int | float = -math.inf
    high: int | float = math.inf

    @property
    def mean(self) -> float:
        """Mean over the runs."""
        return fmean(self.values)

    @property
    def deviation(self) -> float:
        """Standard deviation over the runs."""
        if any(map(math.isnan, self.values)):
            return math.nan
        return stdev(self.values) if len(self.values) > 1 else 0.0

    @property
    def inside(self) -> int:
        """How many runs lie within the bounds."""
        return sum(self.low < value < self.high for value in self.values)

    @property
    def margin(self) -> float:
        """Distance of the mean from the nearer bound, in standard deviations; negative on the wrong side."""
        distance = min(self.mean - self.low, self.high - self.mean)
        return distance / self.deviation if self.deviation else math.copysign(math.inf, distance)

    def words(self) -> str:
        """``12 of 12 runs, 0.871 ± 0.019``; without bounds ``12 runs, 0.871 ± 0.019``."""
        bounded = math.isfinite(self.low) or math.isfinite(self.high)
        runs = f"{self.inside} of {len(self.values)} runs" if bounded else f"{len(self.values)} runs"
        if math.isnan(self.deviation):
            return f"{runs}, some of them not a number"
        digits = 1 - math.floor(math.log10(self.deviation)) if self.deviation else 2  # two of the deviation
        places = min(max(digits, 0), 6)
        return f"{runs}, {round(self.mean, places) + 0:,.{places}f} ± {self.deviation:,.{places}f}"


@cache
def load_record(key: str) -> list[dict[str, Any]]:
    """The recorded runs of a chapter, or none where nothing was recorded yet."""
    file = resources.files("attention_notes") / "papers" / key / "evidence.json"
    return json.loads(file.read_text(encoding="utf-8"))["runs"] if file.is_file() else []


def spread(key: str, claim_id: str, measure: Measure) -> Spread | None:
    """The recorded values of one measurement of a claim, held against the bounds of today."""
    kept = [run["values"].get(claim_id, {}).get(measure.name) for run in load_record(key)]
    values = tuple(math.nan if value is None else float(value) for value in kept)
    return Spread(values, measure.low, measure.high) if values else None


def shortcomings(
    claim_id: str, verdict: str, runs: list[dict[str, Any]], bounds: Mapping[str, tuple[int | float, int | float]]
) -> list[str]:
    """What a record lacks to bear a verdict: runs, seeds, instruction sets, a value, or the distance from its bound.

    Args:
        claim_id: the trained statement.
        verdict: *holds here* needs every run within the bounds, and the mean ``MARGIN`` standard deviations from them;
            what is given without a bound, by ``found``, stands beside at least one that has a bound.
        runs: the record.
        bounds: by the name of each measurement that its check is given, between which two numbers it should lie.
    """
    if len(runs) < RUNS:
        return [f"{claim_id}: {len(runs)} runs are recorded, {RUNS} are needed: make evidence"]
    problems = []
    seeds, instructions = {run["shift"] for run in runs}, {run["instructions"] for run in runs}
    if len(seeds) < SEEDS or len(instructions) < INSTRUCTIONS:
        problems.append(f"{claim_id}: {len(seeds)} seeds and {len(instructions)} instruction sets are too few")
    if verdict == "holds here" and all(math.isinf(low) and math.isinf(high) for low, high in bounds.values()):
        problems.append(f"{claim_id}: {', '.join(map(repr, bounds))} without a bound, and so nothing that could hold")
    for name, (low, high) in bounds.items():
        kept = [run["values"].get(claim_id, {}).get(name) for run in runs]
        if any(value is None for value in kept):
            problems.append(f"{claim_id}: {name!r} is missing from {kept.count(None)} runs")
            continue
        found = Spread(tuple(map(float, kept)), low, high)
        if verdict == "holds here" and (found.inside < len(runs) or not found.margin >= MARGIN):
            problems.append(
                f"{claim_id}: {name!r} is on its side in {found.inside} of {len(runs)} runs, its mean "
                f"{found.margin:.1f} standard deviations from the bound ({found.words()}); all runs and {MARGIN:g} "
                "are needed"
            )
    return problems
