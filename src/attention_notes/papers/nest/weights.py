"""How timm names and shapes the weights of a NesT, which it converted from the authors' files."""

import math
from typing import Any

from attention_notes.papers.nest.model import NesT
from attention_notes.papers.vit.weights import PATCHES
from attention_notes.weights import Foreign, Tensors, foreign, length
from attention_notes.weights.layouts import Layout

_BLOCK, _THEIRS = "levels.{i}.blocks.{j}", "levels.{i}.transformer_encoder.{j}"


def _sizes(model: Any) -> dict[str, int]:
    py, px = model.patches.patch
    return {"ch": model.patches.channels, "py": py, "px": px}


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
            (f"{_BLOCK}.attention.attend.output", f"{_THEIRS}.attn.proj"),
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
