"""How others name and shape the weights of a Swin Transformer, of its first version and of its second."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from attention_notes.papers.swin.model import Swin
from attention_notes.papers.vit.weights import PATCHES
from attention_notes.weights import Foreign, foreign
from attention_notes.weights.layouts import Layout, Row, State, fill

TABLE = "(dy dx) h -> h dy dx"  # one row for each offset between query and key, as in ``relative_index``
_BLOCK = "stages.{i}.blocks.{j}"


def sizes(model: Any) -> dict[str, int]:
    """Channels, and the sides of a patch."""
    py, px = model.patches.patch
    return {"ch": model.patches.channels, "py": py, "px": px}


def _index(attention: Any) -> Tensor:
    return attention.bias.index


def _flat_index(attention: Any) -> Tensor:
    return attention.bias.index.flatten()


def _coordinates(attention: Any) -> Tensor | None:
    """V2 evaluates its network at these offsets; V1 has a table."""
    return attention.bias.coordinates[None] if hasattr(attention.bias, "coordinates") else None


def _mask(attention: Any) -> Tensor | None:
    """The authors add -100 where here is -inf, and have no mask where windows are not shifted."""
    return None if attention.windows.mask is None else attention.windows.mask.clamp(min=-100)


def _derived(buffers: Mapping[str, Callable[[Any], Tensor | None]]) -> Callable[[Any], State]:
    """What follows from the sizes of each block's attention, by names with numbers of stage and block to fill in."""

    def of(model: Any) -> State:
        blocks = [(i, j, b) for i, stage in enumerate(model.stages) for j, b in enumerate(stage.blocks)]
        found = {fill(n, {"i": i, "j": j}): make(b.attention) for i, j, b in blocks for n, make in buffers.items()}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    return of


def _authors_rows(*, merging: str, head: str) -> tuple[Row, ...]:
    """The authors' names, which timm has taken over but for two."""
    block = "layers.{i}.blocks.{j}"
    return (
        ("patches.projection.weight", "patch_embed.proj.weight", PATCHES),
        ("patches.projection.bias", "patch_embed.proj.bias"),
        ("patch_norm", "patch_embed.norm"),
        (f"{_BLOCK}.attention_residual.norm", f"{block}.norm1"),
        (f"{_BLOCK}.attention.qkv", f"{block}.attn.qkv"),
        (f"{_BLOCK}.attention.query_bias", f"{block}.attn.q_bias"),
        (f"{_BLOCK}.attention.value_bias", f"{block}.attn.v_bias"),
        (f"{_BLOCK}.attention.logit_scale", f"{block}.attn.logit_scale"),
        (f"{_BLOCK}.attention.bias.table", f"{block}.attn.relative_position_bias_table", TABLE),
        (f"{_BLOCK}.attention.bias.network", f"{block}.attn.cpb_mlp"),
        (f"{_BLOCK}.attention.output", f"{block}.attn.proj"),
        (f"{_BLOCK}.mlp_residual.norm", f"{block}.norm2"),
        (f"{_BLOCK}.mlp.expand", f"{block}.mlp.fc1"),
        (f"{_BLOCK}.mlp.contract", f"{block}.mlp.fc2"),
        ("stages.{i}.merging", merging),
        ("norm", "norm"),
        ("head", head),
    )


def _transformers_rows(prefix: str, attention: tuple[Row, ...], *, mlp: tuple[str, str]) -> tuple[Row, ...]:
    """What both versions share there; the rows of the attention and the layers of the perceptron are each one's own."""
    block = f"{prefix}.encoder.layers.{{i}}.blocks.{{j}}"
    return (
        ("patches.projection.weight", f"{prefix}.embeddings.patch_embeddings.projection.weight", PATCHES),
        ("patches.projection.bias", f"{prefix}.embeddings.patch_embeddings.projection.bias"),
        ("patch_norm", f"{prefix}.embeddings.norm"),
        (f"{_BLOCK}.attention_residual.norm", f"{block}.layernorm_before"),
        (f"{_BLOCK}.mlp_residual.norm", f"{block}.layernorm_after"),
        (f"{_BLOCK}.mlp.expand", f"{block}.{mlp[0]}"),
        (f"{_BLOCK}.mlp.contract", f"{block}.{mlp[1]}"),
        ("stages.{i}.merging", f"{prefix}.encoder.layers.{{i-1}}.downsample"),
        ("norm", f"{prefix}.layernorm"),
        ("head", "classifier"),
        *attention,
    )


_FIRST = "swin.encoder.layers.{i}.blocks.{j}.attention"
_SECOND = "swinv2.encoder.layers.{i}.blocks.{j}.attention"
_NAMES = ("query", "key", "value")
_DENSE = ("intermediate.dense", "output.dense")

_V1_ATTENTION: tuple[Row, ...] = (
    (f"{_BLOCK}.attention.qkv", tuple(f"{_FIRST}.self.{name}" for name in _NAMES)),
    (f"{_BLOCK}.attention.bias.table", f"{_FIRST}.self.relative_position_bias_table", TABLE),
    (f"{_BLOCK}.attention.output", f"{_FIRST}.output.dense"),
)
_V1_LOADED_ATTENTION: tuple[Row, ...] = (
    (f"{_BLOCK}.attention.qkv", tuple(f"{_FIRST}.{name}_proj" for name in "qkv")),
    (
        f"{_BLOCK}.attention.bias.table",
        f"{_FIRST}.relative_position_bias.relative_position_bias_table",
        TABLE,
    ),
    (f"{_BLOCK}.attention.output", f"{_FIRST}.o_proj"),
)
_V2_ATTENTION: tuple[Row, ...] = (
    (f"{_BLOCK}.attention.qkv.weight", tuple(f"{_SECOND}.self.{name}.weight" for name in _NAMES)),
    (f"{_BLOCK}.attention.query_bias", f"{_SECOND}.self.query.bias"),
    (f"{_BLOCK}.attention.value_bias", f"{_SECOND}.self.value.bias"),
    (f"{_BLOCK}.attention.logit_scale", f"{_SECOND}.self.logit_scale"),
    (f"{_BLOCK}.attention.bias.network", f"{_SECOND}.self.continuous_position_bias_mlp"),
    (f"{_BLOCK}.attention.output", f"{_SECOND}.output.dense"),
)

_TORCHVISION_BLOCK = "features.{2i+1}.{j}"  # stages and mergings take turns
TORCHVISION_ROWS: tuple[Row, ...] = (
    ("patches.projection.weight", "features.0.0.weight", PATCHES),
    ("patches.projection.bias", "features.0.0.bias"),
    ("patch_norm", "features.0.2"),
    (f"{_BLOCK}.attention_residual.norm", f"{_TORCHVISION_BLOCK}.norm1"),
    (f"{_BLOCK}.attention.qkv", f"{_TORCHVISION_BLOCK}.attn.qkv"),
    (f"{_BLOCK}.attention.bias.table", f"{_TORCHVISION_BLOCK}.attn.relative_position_bias_table", TABLE),
    (f"{_BLOCK}.attention.output", f"{_TORCHVISION_BLOCK}.attn.proj"),
    (f"{_BLOCK}.mlp_residual.norm", f"{_TORCHVISION_BLOCK}.norm2"),
    (f"{_BLOCK}.mlp.expand", f"{_TORCHVISION_BLOCK}.mlp.0"),
    (f"{_BLOCK}.mlp.contract", f"{_TORCHVISION_BLOCK}.mlp.3"),
    ("stages.{i}.merging", "features.{2i}"),
    ("norm", "norm"),
    ("head", "head"),
)

_AUTHORS_BUFFERS = _derived(
    {
        "layers.{i}.blocks.{j}.attn.relative_position_index": _index,
        "layers.{i}.blocks.{j}.attn.relative_coords_table": _coordinates,
        "layers.{i}.blocks.{j}.attn_mask": _mask,
    }
)
LAYOUTS = (
    Layout(
        "timm",
        _authors_rows(merging="layers.{i}.downsample", head="head.fc"),
        derived=_AUTHORS_BUFFERS,  # in files of older versions
        sizes=sizes,
    ),
    Layout(
        "transformers",
        _transformers_rows("swin", _V1_ATTENTION, mlp=_DENSE),
        derived=_derived({f"{_FIRST}.self.relative_position_index": _index}),
        sizes=sizes,
    ),
    Layout(
        "transformers, as loaded",
        _transformers_rows("swin", _V1_LOADED_ATTENTION, mlp=("mlp.fc1", "mlp.fc2")),
        sizes=sizes,
    ),
    Layout(  # of V2; files and modules have the same names
        "transformers",
        _transformers_rows("swinv2", _V2_ATTENTION, mlp=_DENSE),
        derived=_derived(
            {
                f"{_SECOND}.self.relative_position_index": _index,
                f"{_SECOND}.self.relative_coords_table": _coordinates,
            }
        ),
        sizes=sizes,
    ),
    Layout(  # of V1; its V2 keeps a bias of the keys that it never uses, and that the others do not have
        "torchvision",
        TORCHVISION_ROWS,
        derived=_derived({f"{_TORCHVISION_BLOCK}.attn.relative_position_index": _flat_index}),
        writes_derived=True,
        sizes=sizes,
    ),
    Layout(
        "the authors",  # the merging stands at the end of the stage before
        _authors_rows(merging="layers.{i-1}.downsample", head="head"),
        derived=_AUTHORS_BUFFERS,
        writes_derived=True,
        sizes=sizes,
    ),
)


@foreign.register
def _(model: Swin) -> Foreign:
    return Foreign(LAYOUTS, ("head",), "patches.projection.weight")
