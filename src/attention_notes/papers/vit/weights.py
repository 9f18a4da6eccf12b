"""How others name and shape the weights of a Vision Transformer."""

import math
from typing import Any

from attention_notes.papers.vit.model import VisionTransformer
from attention_notes.weights import Foreign, Tensors, foreign, length
from attention_notes.weights.layouts import Layout, Row

PATCHES = "c ch py px -> c (ch py px)"
QKV = ("query", "key", "value")
POOLER = {"pooler": "reads the class token for a task of pre-training that is not published"}


def sizes(model: Any) -> dict[str, int]:
    """Channels, the sides of a patch, and heads."""
    (py, px), heads = model.patches.patch, model.blocks[0].attention.heads
    return {"ch": model.patches.channels, "py": py, "px": px, "h": heads}


def stored(model: Any, tensors: Tensors, prefix: str = "") -> dict[str, Any]:
    """Width, depth, registers, and the size of the images: the model's own, if it fits, or else that of a square."""
    found: dict[str, Any] = {}
    if (bias := tensors(f"{prefix}norm.bias")) is not None:
        found["dim"] = len(bias)
    if depth := length(tensors, f"{prefix}blocks.{{i}}.attention_norm.bias"):
        found["depth"] = depth
    if (bias := tensors(f"{prefix}blocks.0.mlp.expand.bias")) is not None:
        found["hidden"] = len(bias)
    registers = tensors(f"{prefix}registers")
    found["registers"] = 0 if registers is None else registers.shape[1]
    if (positions := tensors(f"{prefix}positions")) is not None:
        found["image_size"] = _image_size(model, positions.shape[-2] - model.placed)
    return found


def _image_size(model: Any, patches: int) -> tuple[int, int]:
    (rows, columns), (py, px), side = model.patches.grid, model.patches.patch, math.isqrt(max(patches, 0))
    if patches == rows * columns:
        return model.patches.image_size
    if side**2 != patches:
        few = next(i for i in range(side, 0, -1) if patches % i == 0)
        y, x = model.patches.image_size
        raise ValueError(
            f"its positions are of {patches} patches, but {y} x {x} pixels make {rows} x {columns}: give as "
            f"image_size what it was trained at, such as ({few * py}, {patches // few * px}), and resize the model then"
        )
    return side * py, side * px


TIMM_ROWS: tuple[Row, ...] = (
    ("patches.projection.weight", "patch_embed.proj.weight", PATCHES),
    ("patches.projection.bias", "patch_embed.proj.bias"),
    ("pooling.token", "cls_token"),
    ("registers", "reg_token"),
    ("positions", "pos_embed"),
    ("pre_norm", "norm_pre"),
    ("blocks.{i}.attention_norm", "blocks.{i}.norm1"),
    ("blocks.{i}.attention.qkv", "blocks.{i}.attn.qkv"),
    ("blocks.{i}.attention.output", "blocks.{i}.attn.proj"),
    ("blocks.{i}.attention_scale", "blocks.{i}.ls1"),
    ("blocks.{i}.mlp_scale", "blocks.{i}.ls2"),
    ("blocks.{i}.mlp_norm", "blocks.{i}.norm2"),
    ("blocks.{i}.mlp.expand", "blocks.{i}.mlp.fc1"),
    ("blocks.{i}.mlp.contract", "blocks.{i}.mlp.fc2"),
    ("norm", "norm"),
    ("head", "head"),
)


def transformers_rows(prefix: str) -> tuple[Row, ...]:
    """The names in the published files, which ``save_pretrained`` still writes; ``prefix`` is ``"vit."`` or nothing."""
    tokens, block = f"{prefix}embeddings", f"{prefix}encoder.layer.{{i}}"
    return (
        ("patches.projection.weight", f"{tokens}.patch_embeddings.projection.weight", PATCHES),
        ("patches.projection.bias", f"{tokens}.patch_embeddings.projection.bias"),
        ("pooling.token", f"{tokens}.cls_token"),
        ("positions", f"{tokens}.position_embeddings"),
        ("blocks.{i}.attention_norm", f"{block}.layernorm_before"),
        (
            "blocks.{i}.attention.qkv",
            tuple(f"{block}.attention.attention.{name}" for name in QKV),
        ),
        ("blocks.{i}.attention.output", f"{block}.attention.output.dense"),
        ("blocks.{i}.mlp_norm", f"{block}.layernorm_after"),
        ("blocks.{i}.mlp.expand", f"{block}.intermediate.dense"),
        ("blocks.{i}.mlp.contract", f"{block}.output.dense"),
        ("norm", f"{prefix}layernorm"),
        ("head", "classifier"),
    )


def dinov2_rows(names: tuple[str, ...], output: str) -> tuple[Row, ...]:
    """DINOv2 of transformers, given what it calls queries, keys, values and the map behind them: files, or modules."""
    block = "encoder.layer.{i}"
    return (
        ("patches.projection.weight", "embeddings.patch_embeddings.projection.weight", PATCHES),
        ("patches.projection.bias", "embeddings.patch_embeddings.projection.bias"),
        ("pooling.token", "embeddings.cls_token"),
        ("registers", "embeddings.register_tokens"),
        ("positions", "embeddings.position_embeddings"),
        ("blocks.{i}.attention_norm", f"{block}.norm1"),
        ("blocks.{i}.attention.qkv", tuple(f"{block}.attention.{name}" for name in names)),
        ("blocks.{i}.attention.output", f"{block}.attention.{output}"),
        ("blocks.{i}.attention_scale.gamma", f"{block}.layer_scale1.lambda1"),
        ("blocks.{i}.mlp_norm", f"{block}.norm2"),
        ("blocks.{i}.mlp.expand", f"{block}.mlp.fc1"),
        ("blocks.{i}.mlp.contract", f"{block}.mlp.fc2"),
        ("blocks.{i}.mlp_scale.gamma", f"{block}.layer_scale2.lambda1"),
        ("norm", "layernorm"),
    )


def clip_rows(prefix: str) -> tuple[Row, ...]:
    """The image tower of CLIP in transformers; ``prefix`` is ``"vision_model."`` or nothing."""
    tokens, block = f"{prefix}embeddings", f"{prefix}encoder.layers.{{i}}"
    return (
        ("patches.projection.weight", f"{tokens}.patch_embedding.weight", PATCHES),
        ("pooling.token", f"{tokens}.class_embedding", "c -> 1 1 c"),
        ("positions", f"{tokens}.position_embedding.weight", "n c -> 1 n c"),
        ("pre_norm", f"{prefix}pre_layrnorm"),
        ("blocks.{i}.attention_norm", f"{block}.layer_norm1"),
        ("blocks.{i}.attention.qkv", tuple(f"{block}.self_attn.{name}_proj" for name in "qkv")),
        ("blocks.{i}.attention.output", f"{block}.self_attn.out_proj"),
        ("blocks.{i}.mlp_norm", f"{block}.layer_norm2"),
        ("blocks.{i}.mlp.expand", f"{block}.mlp.fc1"),
        ("blocks.{i}.mlp.contract", f"{block}.mlp.fc2"),
        ("norm", f"{prefix}post_layernorm"),
    )


def loaded_rows(prefix: str) -> tuple[Row, ...]:
    """The names of the modules of transformers 5 once a file is loaded."""
    block = f"{prefix}layers.{{i}}"
    new = {
        "blocks.{i}.attention.qkv": tuple(f"{block}.attention.{name}_proj" for name in "qkv"),
        "blocks.{i}.attention.output": f"{block}.attention.o_proj",
        "blocks.{i}.mlp.expand": f"{block}.mlp.fc1",
        "blocks.{i}.mlp.contract": f"{block}.mlp.fc2",
        "blocks.{i}.attention_norm": f"{block}.layernorm_before",
        "blocks.{i}.mlp_norm": f"{block}.layernorm_after",
    }
    return tuple((row[0], new.get(str(row[0]), row[1]), *row[2:]) for row in transformers_rows(prefix))


def torchvision_rows(expand: str, contract: str) -> tuple[Row, ...]:
    """The names of torchvision, given those of the two layers of its perceptron, which have changed."""
    block = "encoder.layers.encoder_layer_{i}"
    return (
        ("patches.projection.weight", "conv_proj.weight", PATCHES),
        ("patches.projection.bias", "conv_proj.bias"),
        ("pooling.token", "class_token"),
        ("positions", "encoder.pos_embedding"),
        ("blocks.{i}.attention_norm", f"{block}.ln_1"),
        ("blocks.{i}.attention.qkv.weight", f"{block}.self_attention.in_proj_weight"),
        ("blocks.{i}.attention.qkv.bias", f"{block}.self_attention.in_proj_bias"),
        ("blocks.{i}.attention.output", f"{block}.self_attention.out_proj"),
        ("blocks.{i}.mlp_norm", f"{block}.ln_2"),
        ("blocks.{i}.mlp.expand", f"{block}.mlp.{expand}"),
        ("blocks.{i}.mlp.contract", f"{block}.mlp.{contract}"),
        ("norm", "encoder.ln"),
        ("head", "heads.head"),
    )


_JAX_BLOCK = "Transformer/encoderblock_{i}"
_JAX_ATTENTION = f"{_JAX_BLOCK}/MultiHeadDotProductAttention_1"

_SAVED = Layout("transformers", transformers_rows("vit."), sizes=sizes)
_LOADED = Layout("transformers, as loaded", loaded_rows("vit."), sizes=sizes)
_CLIP = Layout(
    "transformers, CLIP",
    clip_rows("vision_model."),
    sizes=sizes,
    unused={
        "visual_projection": "maps into the space of images and texts",
        "text_model": "the tower of texts",
        "text_projection": "of texts",
        "logit_scale": "of the loss",
        "vision_model.embeddings.position_ids": "numbers in their order, in older files",
    },
)
LAYOUTS = (
    Layout("timm", TIMM_ROWS, sizes=sizes),
    _SAVED,
    _SAVED.bare("vit.", unused=POOLER),
    _LOADED,
    _LOADED.bare("vit.", unused=POOLER),
    *(
        Layout(name, rows, sizes=sizes, unused={"embeddings.mask_token": "stands for patches hidden in pre-training"})
        for name, rows in (
            ("transformers, DINOv2", dinov2_rows(tuple(f"attention.{name}" for name in QKV), "output.dense")),
            ("transformers, DINOv2, as loaded", dinov2_rows(tuple(f"{name}_proj" for name in "qkv"), "o_proj")),
        )
    ),
    _CLIP,
    _CLIP.bare("vision_model."),
    Layout("torchvision", torchvision_rows("linear_1", "linear_2"), sizes=sizes),  # its files; its modules read both
    Layout("torchvision, as loaded", torchvision_rows("0", "3"), sizes=sizes),
    Layout(
        "the authors",  # arrays of JAX, in .npz files
        (
            ("patches.projection.weight", "embedding/kernel", "py px ch c -> c (ch py px)"),
            ("patches.projection.bias", "embedding/bias"),
            ("pooling.token", "cls"),
            ("positions", "Transformer/posembed_input/pos_embedding"),
            *(
                row
                for ours, theirs in (("attention_norm", "LayerNorm_0"), ("mlp_norm", "LayerNorm_2"))
                for row in (
                    (f"blocks.{{i}}.{ours}.weight", f"{_JAX_BLOCK}/{theirs}/scale"),
                    (f"blocks.{{i}}.{ours}.bias", f"{_JAX_BLOCK}/{theirs}/bias"),
                )
            ),
            (
                "blocks.{i}.attention.qkv.weight",
                tuple(f"{_JAX_ATTENTION}/{name}/kernel" for name in QKV),
                "c h d -> (h d) c",
            ),
            (
                "blocks.{i}.attention.qkv.bias",
                tuple(f"{_JAX_ATTENTION}/{name}/bias" for name in QKV),
                "h d -> (h d)",
            ),
            ("blocks.{i}.attention.output.weight", f"{_JAX_ATTENTION}/out/kernel", "h d c -> c (h d)"),
            ("blocks.{i}.attention.output.bias", f"{_JAX_ATTENTION}/out/bias"),
            ("blocks.{i}.mlp.expand.weight", f"{_JAX_BLOCK}/MlpBlock_3/Dense_0/kernel", "i o -> o i"),
            ("blocks.{i}.mlp.expand.bias", f"{_JAX_BLOCK}/MlpBlock_3/Dense_0/bias"),
            ("blocks.{i}.mlp.contract.weight", f"{_JAX_BLOCK}/MlpBlock_3/Dense_1/kernel", "i o -> o i"),
            ("blocks.{i}.mlp.contract.bias", f"{_JAX_BLOCK}/MlpBlock_3/Dense_1/bias"),
            ("norm.weight", "Transformer/encoder_norm/scale"),
            ("norm.bias", "Transformer/encoder_norm/bias"),
            ("head.weight", "head/kernel", "i o -> o i"),
            ("head.bias", "head/bias"),
        ),
        sizes=sizes,
        unused={
            "pre_logits/kernel": "a layer of pre-training that fine-tuning drops",
            "pre_logits/bias": "as its kernel",
        },
    ),
)


@foreign.register
def _(model: VisionTransformer) -> Foreign:
    return Foreign(LAYOUTS, ("head",), "patches.projection.weight", stored)
