"""How others name and shape the weights of a Pyramid Vision Transformer, of its first version and of its second."""

import math
from typing import Any

from torch import Tensor

from attention_notes.papers.pvt.model import PyramidVisionTransformer
from attention_notes.weights import Foreign, Tensors, foreign, length
from attention_notes.weights.layouts import Layout, Row

_BLOCK = "stages.{i}.blocks.{j}"
_LAST = "stages.3"
_ATTEND = f"{_BLOCK}.attention.attend"
_KEYS_VALUES = (f"{_ATTEND}.key", f"{_ATTEND}.value")


def stored(model: Any, tensors: Tensors) -> dict[str, Any]:
    """Widths, depths and, of V1, the size of the images: of as many places as the model's, or else of a square."""
    found: dict[str, Any] = {}
    if stages := length(tensors, "stages.{i}.patches.norm.bias"):
        found["dims"] = tuple(len(tensors(f"stages.{i}.patches.norm.bias")) for i in range(stages))
        found["depths"] = tuple(length(tensors, f"stages.{i}.blocks.{{i}}.mlp_norm.bias") for i in range(stages))
    own, table = model.state_dict().get("stages.0.positions.table"), tensors("stages.0.positions.table")
    if own is not None and table is not None:
        found["image_size"] = _image_size(own, table)
    return found


def _image_size(own: Tensor, table: Tensor) -> tuple[int, int]:
    """Four pixels for each place of the first map."""
    rows, columns = own.shape[1:3]
    if table.ndim == 4:
        rows, columns = table.shape[1:3]
    elif (places := table.shape[1]) != rows * columns:
        rows = columns = math.isqrt(places)
        if rows**2 != places:
            raise ValueError(
                f"its positions are of {places} places, and so of no square image: give as image_size what it was "
                "trained at; the model takes others, too"
            )
    return 4 * rows, 4 * columns


def _positions(table: str, *, token: str) -> tuple[Row, ...]:
    """V1's class token and tables of positions; the token's own position leads the table of the last stage."""
    last = table.replace("{i}", "3").replace("{i+1}", "4")
    return (
        ("pooling.token", token, "1 n c -> 1 1 n c"),
        (("pooling.position", f"{_LAST}.positions.table"), last, "1 n c -> n c"),
        ("stages.{i}.positions.table", table, "1 (gy gx) c -> 1 gy gx c"),
    )


def _original_rows(block: str, *, depthwise: str) -> tuple[Row, ...]:
    """The blocks and the head as the authors name them, and timm after them."""
    return (
        (f"{_BLOCK}.attention_norm", f"{block}.norm1"),
        (f"{_ATTEND}.query", f"{block}.attn.q"),
        (_KEYS_VALUES, f"{block}.attn.kv"),
        (f"{_ATTEND}.output", f"{block}.attn.proj"),
        (f"{_BLOCK}.attention.reduction.convolution", f"{block}.attn.sr"),
        (f"{_BLOCK}.attention.reduction.norm", f"{block}.attn.norm"),
        (f"{_BLOCK}.mlp_norm", f"{block}.norm2"),
        (f"{_BLOCK}.mlp.expand", f"{block}.mlp.fc1"),
        (f"{_BLOCK}.mlp.depthwise", f"{block}.mlp.{depthwise}"),
        (f"{_BLOCK}.mlp.contract", f"{block}.mlp.fc2"),
        ("head", "head"),
    )


def _transformers_rows(block: str, *, attention: str, reduction: str, output: str) -> tuple[Row, ...]:
    """What both versions share there."""
    return (
        (f"{_BLOCK}.attention_norm", f"{block}.layer_norm_1"),
        *((f"{_ATTEND}.{name}", f"{block}.{attention}.{name}") for name in ("query", "key", "value")),
        (f"{_ATTEND}.output", f"{block}.attention.{output}"),
        (f"{_BLOCK}.attention.reduction.convolution", f"{block}.{attention}.{reduction}"),
        (f"{_BLOCK}.attention.reduction.norm", f"{block}.{attention}.layer_norm"),
        (f"{_BLOCK}.mlp_norm", f"{block}.layer_norm_2"),
        (f"{_BLOCK}.mlp.expand", f"{block}.mlp.dense1"),
        (f"{_BLOCK}.mlp.contract", f"{block}.mlp.dense2"),
        ("head", "classifier"),
    )


_V1 = Layout(
    "transformers",
    (
        ("stages.{i}.patches.projection", "pvt.encoder.patch_embeddings.{i}.projection"),
        ("stages.{i}.patches.norm", "pvt.encoder.patch_embeddings.{i}.layer_norm"),
        *_positions(
            "pvt.encoder.patch_embeddings.{i}.position_embeddings",
            token="pvt.encoder.patch_embeddings.3.cls_token",
        ),
        *_transformers_rows(
            "pvt.encoder.block.{i}.{j}",
            attention="attention.self",
            reduction="sequence_reduction",
            output="output.dense",
        ),
        ("pooling.norm", "pvt.encoder.layer_norm"),
    ),
)
_V2 = Layout(
    "transformers",
    (
        ("stages.{i}.patches.projection", "pvt_v2.encoder.layers.{i}.patch_embedding.proj"),
        ("stages.{i}.patches.norm", "pvt_v2.encoder.layers.{i}.patch_embedding.layer_norm"),
        *_transformers_rows(
            "pvt_v2.encoder.layers.{i}.blocks.{j}",
            attention="attention",
            reduction="spatial_reduction",
            output="proj",
        ),
        (f"{_BLOCK}.mlp.depthwise", "pvt_v2.encoder.layers.{i}.blocks.{j}.mlp.dwconv.dwconv"),
        ("stages.{i}.norm", "pvt_v2.encoder.layers.{i}.layer_norm"),
    ),
)
LAYOUTS = (
    Layout(
        "timm",  # has V2 only
        (
            ("stages.0.patches.projection", "patch_embed.proj"),
            ("stages.0.patches.norm", "patch_embed.norm"),
            ("stages.{i}.patches.projection", "stages.{i}.downsample.proj"),
            ("stages.{i}.patches.norm", "stages.{i}.downsample.norm"),
            *_original_rows(_BLOCK, depthwise="dwconv"),
            ("stages.{i}.norm", "stages.{i}.norm"),
        ),
    ),
    _V1,
    _V1.bare("pvt."),
    _V2,
    _V2.bare("pvt_v2."),
    Layout(
        "the authors",  # of both, counted from 1
        (
            ("stages.{i}.patches.projection", "patch_embed{i+1}.proj"),
            ("stages.{i}.patches.norm", "patch_embed{i+1}.norm"),
            *_positions("pos_embed{i+1}", token="cls_token"),
            *_original_rows("block{i+1}.{j}", depthwise="dwconv.dwconv"),
            ("stages.{i}.norm", "norm{i+1}"),
            ("pooling.norm", "norm"),
        ),
    ),
)


@foreign.register
def _(model: PyramidVisionTransformer) -> Foreign:
    return Foreign(LAYOUTS, ("head",), "stages.0.patches.projection.weight", stored)
