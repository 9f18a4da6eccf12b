"""How others name and shape the weights of Twins: the authors, and timm after them."""

from typing import Any

from attention_notes.papers.twins.model import Twins
from attention_notes.weights import Foreign, Tensors, foreign, length
from attention_notes.weights.layouts import Layout

_BLOCK = "stages.{i}.blocks.{j}"
_ATTEND = f"{_BLOCK}.attention.attend"


def stored(model: Any, tensors: Tensors) -> dict[str, Any]:
    """Widths and depths of the stages."""
    found: dict[str, Any] = {}
    if stages := length(tensors, "stages.{i}.patches.norm.bias"):
        found["dims"] = tuple(len(tensors(f"stages.{i}.patches.norm.bias")) for i in range(stages))
        found["depths"] = tuple(length(tensors, f"stages.{i}.blocks.{{i}}.mlp_norm.bias") for i in range(stages))
    return found


LAYOUTS = (
    Layout(
        "timm",  # and the authors
        (
            ("stages.{i}.patches.projection", "patch_embeds.{i}.proj"),
            ("stages.{i}.patches.norm", "patch_embeds.{i}.norm"),
            (f"{_BLOCK}.attention_norm", "blocks.{i}.{j}.norm1"),
            (f"{_ATTEND}.qkv", "blocks.{i}.{j}.attn.qkv"),
            (f"{_ATTEND}.query", "blocks.{i}.{j}.attn.q"),
            ((f"{_ATTEND}.key", f"{_ATTEND}.value"), "blocks.{i}.{j}.attn.kv"),
            (f"{_ATTEND}.output", "blocks.{i}.{j}.attn.proj"),
            (f"{_BLOCK}.attention.reduction.convolution", "blocks.{i}.{j}.attn.sr"),
            (f"{_BLOCK}.attention.reduction.norm", "blocks.{i}.{j}.attn.norm"),
            (f"{_BLOCK}.mlp_norm", "blocks.{i}.{j}.norm2"),
            (f"{_BLOCK}.mlp.expand", "blocks.{i}.{j}.mlp.fc1"),
            (f"{_BLOCK}.mlp.contract", "blocks.{i}.{j}.mlp.fc2"),
            ("stages.{i}.blocks.0.positions.convolution", "pos_block.{i}.proj.0"),
            ("pooling.norm", "norm"),
            ("head", "head"),
        ),
    ),
)


@foreign.register
def _(model: Twins) -> Foreign:
    return Foreign(LAYOUTS, ("head",), "stages.0.patches.projection.weight", stored)
