"""How timm names and shapes the weights of a NesT, which it converted from the authors' files.

It puts the heads of an attention together number by number, where here they stand side by side: the first numbers of
all heads, then the second ones. So the columns of the last map have another order.
"""

import math
from typing import Any

from attention_notes.papers.nest.model import NesT
from attention_notes.papers.vit.weights import PATCHES
from attention_notes.weights import Foreign, Tensors, foreign, length
from attention_notes.weights.layouts import Layout

_BLOCK, _THEIRS = "levels.{i}.blocks.{j}", "levels.{i}.transformer_encoder.{j}"


_LEVELS = 8  # of a tree; each has its own number of heads


def _sizes(model: Any) -> dict[str, int]:
    (py, px), heads = model.patches.patch, dict[str, int]()
    for i, level in enumerate(model.levels):
        heads |= {f"h{i}": block.attention.attend.heads for block in level.blocks}
    return {"ch": model.patches.channels, "py": py, "px": px, **heads}


def stored(model: Any, tensors: Tensors) -> dict[str, Any]:
    """Widths, depths, and the size of the images: the model's own, if it fits, or else that of a square."""
    found: dict[str, Any] = {}
    if levels := length(tensors, "levels.{i}.positions"):
        tables = [tensors(f"levels.{i}.positions") for i in range(levels)]
        found["dims"] = tuple(table.shape[-1] for table in tables)
        found["depths"] = tuple(length(tensors, f"levels.{i}.blocks.{{i}}.mlp_norm.bias") for i in range(levels))
        found["image_size"] = _image_size(model, *tables[0].shape[1:3])
    return found


def _image_size(model: Any, blocks: int, tokens: int) -> tuple[int, int]:
    (rows, columns), (py, px) = model.patches.grid, model.patches.patch
    side = math.isqrt(blocks * tokens)
    if blocks * tokens == rows * columns:
        return model.patches.image_size
    if side**2 != blocks * tokens:
        y, x = model.patches.image_size
        raise ValueError(
            f"its positions are of {blocks} blocks of {tokens} patches, but {y} x {x} pixels make {rows} x {columns}: "
            "give as image_size what it was trained at, and resize the model then"
        )
    return side * py, side * px


LAYOUTS = (
    Layout(
        "timm",
        (
            ("patches.projection.weight", "patch_embed.proj.weight", PATCHES),
            ("patches.projection.bias", "patch_embed.proj.bias"),
            ("levels.{i}.aggregation.convolution", "levels.{i}.pool.conv"),
            ("levels.{i}.aggregation.norm", "levels.{i}.pool.norm"),
            ("levels.{i}.positions", "levels.{i}.pos_embed"),
            (f"{_BLOCK}.attention_norm", f"{_THEIRS}.norm1"),
            (f"{_BLOCK}.attention.attend.qkv", f"{_THEIRS}.attn.qkv"),
            *(
                (
                    f"levels.{i}.blocks.{{j}}.attention.attend.output.weight",
                    f"levels.{i}.transformer_encoder.{{j}}.attn.proj.weight",
                    f"o (d h{i}) -> o (h{i} d)",
                )
                for i in range(_LEVELS)
            ),
            (f"{_BLOCK}.attention.attend.output.bias", f"{_THEIRS}.attn.proj.bias"),
            (f"{_BLOCK}.mlp_norm", f"{_THEIRS}.norm2"),
            (f"{_BLOCK}.mlp.expand", f"{_THEIRS}.mlp.fc1"),
            (f"{_BLOCK}.mlp.contract", f"{_THEIRS}.mlp.fc2"),
            ("norm", "norm"),
            ("head", "head"),
        ),
        sizes=_sizes,
    ),
)


@foreign.register
def _(model: NesT) -> Foreign:
    return Foreign(LAYOUTS, ("head",), "patches.projection.weight", stored)
