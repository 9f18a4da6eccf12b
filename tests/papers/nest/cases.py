"""Small models for the suite over all models."""

from functools import partial

from attention_notes.papers.nest import BlockAggregation, MultiQueryAttention, centred_max_pool, nest
from tests.contract import Case, images

# 4 x 6 patches in blocks of 2 x 3, then one block of 2 x 3
TINY = {"dims": (12, 18), "depths": (1, 2), "heads": (3, 3), "patch": 7, "num_classes": 5, "image_size": (28, 42)}
# 2 x 6 patches in blocks of 1 x 3
NARROW = {**TINY, "patch": (14, 7), "drop_path": 0.5}
MODELS = {
    "nest": Case(partial(nest, "nest_t", **TINY), images),
    "nest of narrow blocks": Case(partial(nest, "nest_t", **NARROW), images),
    "nest with shared keys": Case(
        partial(
            nest,
            "nest_t",
            attention=MultiQueryAttention,
            aggregation=partial(BlockAggregation, pool=centred_max_pool),
            **TINY,
        ),
        images,
    ),
}

_FOUR = {"dims": (8, 12, 16, 20), "depths": (1, 2, 1, 2), "heads": (1, 1, 2, 2), "image_size": (64, 96)}
PYRAMIDS = {"nest": (partial(nest, "nest_t", **_FOUR), (8, 12, 16, 20))}
