"""What the facts files say of the variants of a model, under ``variants``: one line each."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from attention_notes.claims import claims


@dataclass(frozen=True)
class Record:
    """What a facts file says of a variant.

    ``gmacs`` is what we measure at the variant's own size, ``published`` what others printed, in their digits, and
    ``because`` says why the two differ, where they do. ``top1`` is the accuracy in per cent after training on
    ImageNet-1k alone, ``pretrained`` that after training on more first, by the data; ``tested`` are the overrides that
    make the model as it was when tested, where they differ from the variant. ``source`` says who published.
    """

    parameters: int
    gmacs: float
    published: str = ""
    because: str = ""
    top1: float | None = None
    pretrained: Mapping[str, float] = field(default_factory=dict)
    tested: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""


def parse_record(key: str, variant: str, lines: Mapping[str, Any]) -> Record:
    """The line of a variant, checked; where ``published`` is the id of a claim, its number is taken from there.

    Raises:
        ValueError: if the line is missing, or lacks what it needs, or has an entry that is not known.
    """
    where = f"papers/{key}/facts.yml, variants: {variant}"
    entry = lines.get(variant)
    if entry is None:
        raise ValueError(f"{where} is missing: it needs at least its parameters and its gmacs")
    if unknown := entry.keys() - {f.name for f in fields(Record)}:
        raise ValueError(f"{where} has unknown entries {', '.join(sorted(unknown))}")
    if missing := {"parameters", "gmacs"} - entry.keys():
        raise ValueError(f"{where} lacks {', '.join(sorted(missing))}")
    if not entry.get("source") and entry.keys() & {"published", "top1", "pretrained"}:
        raise ValueError(f"{where} has no source for what was published: name the paper's table, or the repository")
    printed = str(entry.get("published", ""))
    known = claims(key)
    return Record(**{**entry, "published": known[printed].value if printed in known else printed})
