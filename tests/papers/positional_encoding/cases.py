"""Small models for the suite over all models."""

from functools import partial

from attention_notes.papers.positional_encoding import (
    BucketBias,
    ConditionalPositions,
    Encoder,
    GridBias,
    LinearBias,
    RelativePositions,
    Rotary,
)
from attention_notes.papers.transformer import Sinusoids
from tests.contract import Case, embedded

SMALL = {"layers": 2, "heads": 3, "hidden": 44, "dropout": 0.1}


def _placed(**options) -> Case:
    return Case(partial(Encoder, 30, **SMALL, **options), embedded)


MODELS = {
    "positional_encoding rotary": _placed(core=Rotary),
    "positional_encoding shaw": _placed(core=partial(RelativePositions, reach=5)),
    "positional_encoding t5": _placed(core=partial(BucketBias, buckets=8, furthest=12)),
    "positional_encoding alibi": _placed(core=LinearBias),
    "positional_encoding grid": _placed(core=partial(GridBias, grid=(4, 7))),
    "positional_encoding conditional": Case(
        lambda: Encoder(30, positions=ConditionalPositions(30, columns=7), after=1, **SMALL), embedded
    ),
    "positional_encoding sinusoids": Case(lambda: Encoder(30, positions=Sinusoids(30), **SMALL), embedded),
}
