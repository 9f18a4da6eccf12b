"""How timm names and shapes the weights of a ViT with a MAP head, of its usual blocks and of its parallel ones.

No weights of these papers are published. What is trained elsewhere on the same shapes can be read.
"""

from typing import Any

from attention_notes.papers.scaling_vit.model import ParallelBlock, ScalingViT
from attention_notes.papers.vit import weights as vit
from attention_notes.weights import Foreign, Tensors, foreign
from attention_notes.weights.layouts import Layout, Row

_ASKS = "pooling.attention"
POOLING: tuple[Row, ...] = (
    ("pooling.token", "attn_pool.latent"),
    (f"{_ASKS}.query", "attn_pool.q"),
    ((f"{_ASKS}.key.weight", f"{_ASKS}.value.weight"), "attn_pool.kv.weight"),
    ((f"{_ASKS}.key.bias", f"{_ASKS}.value.bias"), "attn_pool.kv.bias"),
    (f"{_ASKS}.output", "attn_pool.proj"),
    ("pooling.mlp_norm", "attn_pool.norm"),
    ("pooling.mlp.expand", "attn_pool.mlp.fc1"),
    ("pooling.mlp.contract", "attn_pool.mlp.fc2"),
)
NORMALISED: tuple[Row, ...] = (
    ("blocks.{i}.attention.query_norm", "blocks.{i}.attn.q_norm"),
    ("blocks.{i}.attention.key_norm", "blocks.{i}.attn.k_norm"),
)
PARALLEL: tuple[Row, ...] = (
    ("blocks.{i}.attention_norm", "blocks.{i}.in_norm"),
    (("blocks.{i}.mlp.expand.weight", "blocks.{i}.attention.qkv.weight"), "blocks.{i}.in_proj.weight"),
    ("blocks.{i}.mlp.expand.bias", "blocks.{i}.mlp_bias"),
    ("blocks.{i}.attention.query_norm", "blocks.{i}.q_norm"),
    ("blocks.{i}.attention.key_norm", "blocks.{i}.k_norm"),
    ("blocks.{i}.attention.output", "blocks.{i}.attn_out_proj"),
    ("blocks.{i}.mlp.contract", "blocks.{i}.mlp_out_proj"),
)
_AROUND = tuple(row for row in vit.TIMM_ROWS if not str(row[0]).startswith("blocks"))

USUAL = Layout("timm", (*POOLING, *NORMALISED, *vit.TIMM_ROWS), sizes=vit.sizes)
SIDE_BY_SIDE = Layout("timm", (*POOLING, *PARALLEL, *_AROUND), sizes=vit.sizes)


def stored(model: Any, tensors: Tensors) -> dict[str, Any]:
    """As for a ``vit``; norms may have no biases, and always have gains."""
    return vit.stored(model, lambda name: tensors(name.replace("norm.bias", "norm.weight")))


@foreign.register
def _(model: ScalingViT) -> Foreign:
    parallel = isinstance(model.blocks[0], ParallelBlock)
    return Foreign((SIDE_BY_SIDE if parallel else USUAL,), ("head",), "patches.projection.weight", stored)
