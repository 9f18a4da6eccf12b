"""How others name and shape the weights of a CaiT: timm, and the authors' own files."""

from typing import Any

from attention_notes.papers.cait.model import CaiT
from attention_notes.papers.vit import weights as vit
from attention_notes.weights import Foreign, Tensors, foreign, length
from attention_notes.weights.layouts import Layout, Row

OF_PATCHES: tuple[Row, ...] = (
    ("blocks.{i}.attention.score_map", "blocks.{i}.attn.proj_l.weight"),
    ("blocks.{i}.attention.score_bias", "blocks.{i}.attn.proj_l.bias"),
    ("blocks.{i}.attention.weight_map", "blocks.{i}.attn.proj_w.weight"),
    ("blocks.{i}.attention.weight_bias", "blocks.{i}.attn.proj_w.bias"),
    ("blocks.{i}.attention_scale.gamma", "blocks.{i}.gamma_1"),
    ("blocks.{i}.mlp_scale.gamma", "blocks.{i}.gamma_2"),
)
_STAGE, _THEIRS = "pooling.blocks.{i}", "blocks_token_only.{i}"
OF_CLASS: tuple[Row, ...] = (
    (f"{_STAGE}.attention_norm", f"{_THEIRS}.norm1"),
    (f"{_STAGE}.attention.query", f"{_THEIRS}.attn.q"),
    (f"{_STAGE}.attention.key", f"{_THEIRS}.attn.k"),
    (f"{_STAGE}.attention.value", f"{_THEIRS}.attn.v"),
    (f"{_STAGE}.attention.output", f"{_THEIRS}.attn.proj"),
    (f"{_STAGE}.attention_scale.gamma", f"{_THEIRS}.gamma_1"),
    (f"{_STAGE}.mlp_norm", f"{_THEIRS}.norm2"),
    (f"{_STAGE}.mlp.expand", f"{_THEIRS}.mlp.fc1"),
    (f"{_STAGE}.mlp.contract", f"{_THEIRS}.mlp.fc2"),
    (f"{_STAGE}.mlp_scale.gamma", f"{_THEIRS}.gamma_2"),
)


def stored(model: Any, tensors: Tensors) -> dict[str, Any]:
    """As for a ``vit``, and the number of class-attention layers."""
    found = vit.stored(model, tensors)
    if depth := length(tensors, "pooling.blocks.{i}.attention_norm.bias"):
        found["class_depth"] = depth
    return found


LAYOUTS = (Layout("timm", (*OF_PATCHES, *OF_CLASS, *vit.TIMM_ROWS), sizes=vit.sizes),)


@foreign.register
def _(model: CaiT) -> Foreign:
    return Foreign(LAYOUTS, ("head",), "patches.projection.weight", stored)
