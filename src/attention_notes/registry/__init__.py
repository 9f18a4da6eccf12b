"""Every model of the package by one name, with what is recorded of it, what it measures, and whether the two agree.

A name is a family and one of its variants: ``"vit:B/16"``, ``"swin:swin_t"``, ``"deit:B/16 distilled"``. What is
recorded stands in ``papers/<key>/facts.yml`` under ``variants``. Counts are measured on the ``meta`` device, where
nothing is computed; ``verify`` also runs the models at their full size beside a reference that has the same weights.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from attention_notes.claims import load_facts, rounds_to
from attention_notes.inspect import count_activations, count_macs, count_parameters
from attention_notes.papers import Family, families
from attention_notes.registry.parity import difference, installed
from attention_notes.registry.records import Record, parse_record

TOLERANCE = 1e-5


@dataclass(frozen=True)
class Model:
    """One variant of one family."""

    name: str
    key: str
    variant: str
    family: Family

    @property
    def size(self) -> int | None:
        """Pixels of a side of the image that the variant is made for; ``None`` for a model of text."""
        row = self.family.variants[self.variant]
        return row.get("image_size", self.family.size) if isinstance(row, Mapping) else self.family.size

    @property
    def record(self) -> Record:
        """What the facts say. Raises ``ValueError`` if they say nothing, or something that is not understood."""
        return parse_record(self.key, self.variant, load_facts(self.key)["variants"])

    def build(self, **overrides: Any) -> nn.Module:
        """The model, not trained, in evaluation mode."""
        return self.family.factory(self.variant, **overrides).eval()

    def inputs(self, size: int | None = None) -> tuple[Tensor, ...]:
        """A batch of one for the model: noise, or a sentence and its translation."""
        return self.family.inputs(size or self.size)


class Measured(NamedTuple):
    """Counts of one forward pass of one image, or one pair of sentences."""

    parameters: int
    macs: int
    activations: int


@dataclass(frozen=True)
class Row:
    """What ``verify`` found of a model; ``wrong`` names what is off."""

    name: str
    record: Record
    measured: Measured
    parity: str
    wrong: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether everything is as recorded."""
        return not self.wrong


MODELS: dict[str, Model] = {
    f"{key}:{variant}": Model(f"{key}:{variant}", key, variant, family)
    for key, family in families().items()
    for variant in family.variants
}


def model(name: str) -> Model:
    """The model of that name; the family may be left out where only one has such a variant.

    Raises:
        ValueError: if there is none, or more than one; names those that are near.
    """
    if name in MODELS:
        return MODELS[name]
    if own := [one for one in MODELS.values() if one.variant == name]:
        if len(own) == 1:
            return own[0]
        raise ValueError(f"{name!r} may be {' or '.join(one.name for one in own)}: say which")
    spelt: dict[str, list[str]] = {}
    for one in MODELS.values():
        for known in (one.name, one.variant):
            spelt.setdefault(known.lower(), []).append(one.name)
    exact = spelt.get(name.lower(), [])
    close = get_close_matches(name.lower(), spelt, n=6, cutoff=0.5)
    near = exact or [*dict.fromkeys(known for found in close for known in spelt[found])][:3]
    hint = f"did you mean {', '.join(near)}?" if near else f"the families are {', '.join(families())}"
    raise ValueError(f"unknown model {name!r}; {hint}")


def measure(name: str, *, size: int | None = None, **overrides: Any) -> Measured:
    """Parameters, multiply-accumulates and activations of a model, counted on the ``meta`` device.

    Args:
        name: as ``model`` takes it.
        size: pixels of a side of the image; the model's own when not given.
        overrides: as the factory takes them.
    """
    one, found = model(name), list[int]()
    if size is not None:
        overrides["image_size"] = size
    with torch.device("meta"):
        built, inputs = one.build(**overrides), one.inputs(overrides.get("image_size"))
        macs = count_macs(lambda *x: found.append(count_activations(built, *x)), *inputs)
    return Measured(count_parameters(built), macs, *found)


def verify(names: Iterable[str] | None = None) -> list[Row]:
    """Hold models, all of them when none are named, against what is recorded and against their references."""
    return [examine(name) for name in (MODELS if names is None else names)]


def examine(name: str) -> Row:
    """One model: its exact parameters, its cost, and its logits beside those of its reference.

    The cost must round to what is recorded, and be what was published, to 1 % or to the printed digits; where it is
    not, the record must say why. The largest difference of two logits, relative to the larger of the logit and one, is
    below 1e-5. A reference that is not installed is left out, and the row says so.
    """
    one = model(name)
    record, measured = one.record, measure(name)
    found, parity = one.family.reference(one.variant), ""
    apart = 0.0
    if isinstance(found, str):
        parity = found
    elif not installed(found.library):
        parity = f"{found.library} is not installed"
    else:
        apart = difference(one.build, found, *one.inputs())
        parity = f"{found.library}, {apart:.0e}"
    checks = {
        "parameters": measured.parameters == record.parameters,
        "GMACs": rounds_to(measured.macs, f"{record.gmacs:.2f}G"),
        "published GMACs": not record.published or bool(record.because) or _near(measured.macs, record.published),
        "logits": apart < TOLERANCE,  # not a number is not below it
    }
    return Row(one.name, record, measured, parity, tuple(check for check, holds in checks.items() if not holds))


def _near(macs: int, printed: str) -> bool:
    published = float(printed.removesuffix("G")) * 1e9
    return rounds_to(macs, printed) or abs(macs - published) <= 0.01 * published


def report(rows: Iterable[Row]) -> str:
    """The rows as a table of text, and a last line that counts what is off."""
    rows = list(rows)
    head = ("", "model", "parameters", "GMACs", "published", "logits beside")
    lines = [head, *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    align = (str.ljust, str.ljust, str.rjust, str.rjust, str.rjust, str.ljust)
    text = ["  ".join(a(cell, w) for a, cell, w in zip(align, line, widths, strict=True)).rstrip() for line in lines]
    off = [row.name for row in rows if not row.ok]
    return "\n".join([*text, f"{len(rows)} models, {len(off)} off" + (f": {', '.join(off)}" if off else "")])


def _cells(row: Row) -> tuple[str, ...]:
    parameters, gmacs = f"{row.measured.parameters:,}", f"{row.measured.macs / 1e9:.2f}"
    if "parameters" in row.wrong:
        parameters += f", recorded {row.record.parameters:,}"
    if "GMACs" in row.wrong:
        gmacs += f", recorded {row.record.gmacs:.2f}"
    parity = row.parity if row.ok else f"{row.parity}; OFF: {', '.join(row.wrong)}"
    return "✓" if row.ok else "✗", row.name, parameters, gmacs, row.record.published.removesuffix("G"), parity
