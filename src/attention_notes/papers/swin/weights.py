"""How others name and shape the weights of a Swin Transformer, of its first version and of its second."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from attention_notes.papers.swin.model import Swin
from attention_notes.papers.vit.weights import PATCHES
from attention_notes.weights import Foreign, Tensors, foreign, length
from attention_notes.weights.layouts import Layout, Row, State, fill

TABLE = "(dy dx) h -> h dy dx"  # one row for each offset between query and key, as in ``relative_index``
_BLOCK = "stages.{i}.blocks.{j}"


def sizes(model: Any) -> dict[str, int]:
    """Channels, and the sides of a patch."""
    py, px = model.patches.patch
    return {"ch": model.patches.channels, "py": py, "px": px}


def stored(model: Any, tensors: Tensors) -> dict[str, Any]:
    """Width, depths, heads, and the windows as V1's tables have them; of V2, no parameter tells a window."""
    found: dict[str, Any] = {}
    if (bias := tensors("patch_norm.bias")) is not None:
        found["dim"] = len(bias)
    stages = range(length(tensors, "stages.{i}.blocks.0.mlp.expand.bias"))
    if stages:
        found["depths"] = tuple(length(tensors, f"stages.{i}.blocks.{{i}}.mlp.expand.bias") for i in stages)
    if scales := _all(tensors, "logit_scale", stages):
        return found | {"heads": tuple(len(scale) for scale in scales)}
    if tables := _all(tensors, "bias.table", stages):
        found["heads"] = tuple(table.shape[-1 if table.ndim == 2 else 0] for table in tables)
        found |= _windows(model, tables)
    return found


def _all(tensors: Tensors, name: str, stages: range) -> list[Tensor]:
    """A tensor of the first attention of each stage; none where one is missing."""
    found = [tensors(f"stages.{i}.blocks.0.attention.{name}") for i in stages]
    return [] if any(tensor is None for tensor in found) else found


def _windows(model: Any, tables: list[Tensor]) -> dict[str, Any]:
    """Image size and window: the model's own if its tables are as large, or else those that make such tables.

    Where a map is smaller than a window, the window, and so the table, is as small as the map; if there is such a
    stage, it tells the size of the image.
    """
    own = _all(model.state_dict().get, "bias.table", range(len(tables)))
    if not own:
        return {}
    windows = [_window(*both) for both in zip(tables, own, strict=True)]
    if windows == [_window(table, table) for table in own]:
        return {"image_size": model.patches.image_size, "window": model.window}
    sides = []
    for axis in (0, 1):
        full = windows[0][axis]
        small = next((i for i, window in enumerate(windows) if window[axis] < full), None)
        if small is not None:
            sides.append(windows[small][axis] * 2**small * model.patches.patch[axis])
        elif model.grids[-1][axis] >= full:
            sides.append(model.patches.image_size[axis])
        else:
            sides.append(full * 2 ** (len(windows) - 1) * model.patches.patch[axis])
    return {"image_size": tuple(sides), "window": windows[0]}


def _window(table: Tensor, own: Tensor) -> tuple[int, int]:
    """Rows and columns of the window of a table: in ours both stand, in others' their product."""
    offsets = table.shape[1:] if table.ndim == 3 else own.shape[1:]
    if table.ndim == 2 and len(table) != offsets.numel():
        side = math.isqrt(len(table))
        if side**2 != len(table) or side % 2 == 0:
            raise ValueError(
                f"its windows are of {len(table)} offsets, and so not square: give as window and image_size what it "
                "was trained in, and resize the model then"
            )
        offsets = torch.Size((side, side))
    return (offsets[0] + 1) // 2, (offsets[1] + 1) // 2


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
_V1_SAVED = Layout(
    "transformers",
    _transformers_rows("swin", _V1_ATTENTION, mlp=_DENSE),
    derived=_derived({f"{_FIRST}.self.relative_position_index": _index}),
    sizes=sizes,
)
_V1_LOADED = Layout(
    "transformers, as loaded",
    _transformers_rows("swin", _V1_LOADED_ATTENTION, mlp=("mlp.fc1", "mlp.fc2")),
    sizes=sizes,
)
_V2 = Layout(  # files and modules have the same names
    "transformers",
    _transformers_rows("swinv2", _V2_ATTENTION, mlp=_DENSE),
    derived=_derived(
        {
            f"{_SECOND}.self.relative_position_index": _index,
            f"{_SECOND}.self.relative_coords_table": _coordinates,
        }
    ),
    sizes=sizes,
)
LAYOUTS = (
    Layout(
        "timm",
        _authors_rows(merging="layers.{i}.downsample", head="head.fc"),
        derived=_AUTHORS_BUFFERS,  # in files of older versions
        sizes=sizes,
    ),
    _V1_SAVED,
    _V1_SAVED.bare("swin."),
    _V1_LOADED,
    _V1_LOADED.bare("swin."),
    _V2,
    _V2.bare("swinv2."),
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
    return Foreign(LAYOUTS, ("head",), "patches.projection.weight", stored)
