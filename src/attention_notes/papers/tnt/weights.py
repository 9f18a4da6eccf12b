"""How others name and shape the weights of a TNT."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from attention_notes.papers.tnt.model import TNT
from attention_notes.papers.vit import weights as vit
from attention_notes.weights import Foreign, Tensors, foreign, length
from attention_notes.weights.layouts import Layout, Row, State

Names = tuple[str, str, str, str]  # of a norm, an attention, a norm, a perceptron


class QueriesWithKeys(Layout):
    """A layout in which queries and keys are one tensor, and values another: a row names the three of them.

    Theirs are ``{name}qk`` and ``{name}v``; in rows, ``{name}qk#q``, ``{name}qk#k`` and ``{name}v``.
    """

    def wanted(self, model: nn.Module) -> set[str]:
        """As there, by their names."""
        return {_joined(name) for name in super().wanted(model)}

    def misfits(self, state: State, model: nn.Module) -> tuple[list[str], list[str]]:
        """As there, by their names."""
        return super().misfits({_joined(name): tensor for name, tensor in state.items()}, model)

    def to_theirs(self, model: nn.Module, state: State | None = None) -> dict[str, Tensor]:
        """As there, with queries and keys joined."""
        theirs = dict[str, list[Tensor]]()
        for name, tensor in super().to_theirs(model, state).items():
            theirs.setdefault(_joined(name), []).append(tensor)
        return {name: torch.cat(parts) if len(parts) > 1 else parts[0] for name, parts in theirs.items()}

    def to_ours(self, state: State, model: nn.Module) -> dict[str, Tensor]:
        """As there, from queries and keys joined."""
        return super().to_ours(_apart(state), model)


def _joined(name: str) -> str:
    return name.replace("#q", "").replace("#k", "")


def _apart(state: State) -> Mapping[str, Tensor]:
    found = dict[str, Tensor]()
    for name, tensor in state.items():
        start, both, leaf = name.rpartition(".qk.")
        if both:
            q, k = tensor.tensor_split(2)
            found |= {f"{start}.qk#q.{leaf}": q, f"{start}.qk#k.{leaf}": k}
        else:
            found[name] = tensor
    return found


def _sizes(model: Any) -> dict[str, int]:
    rows, columns = model.patches.words.words
    return {"my": rows, "mx": columns}


def stored(model: Any, tensors: Tensors) -> dict[str, Any]:
    """Width, registers and the size of the images as for a ``vit``; depth, and the widths of MLPs and words."""
    found = vit.stored(model, tensors)
    if depth := length(tensors, "blocks.{i}.outer.attention_norm.bias"):
        found["depth"] = depth
    widths = {"hidden": "outer.mlp.expand", "word_dim": "inner.mlp.contract", "word_hidden": "inner.mlp.expand"}
    for option, name in widths.items():
        if (bias := tensors(f"blocks.0.{name}.bias")) is not None:
            found[option] = len(bias)
    return found


def _rows(stem: tuple[Row, ...], aggregation: tuple[str, str], inner: Names, outer: Names) -> tuple[Row, ...]:
    """All rows, from those of the stem and the positions, and from what others call the parts of a block."""
    rows: list[Any] = [*stem, ("pooling.token", "cls_token"), ("norm", "norm"), ("head", "head")]
    for ours, theirs in (("patches", ""), ("blocks.{i}", "blocks.{i}.")):
        parts = {"before": aggregation[0], "projection": "proj", "after": aggregation[1]}
        rows += [(f"{ours}.aggregation.{part}", f"{theirs}{name}") for part, name in parts.items()]
    for side, names in (("inner", inner), ("outer", outer)):
        ours = f"blocks.{{i}}.{side}"
        norm, attention, second, mlp = (f"blocks.{{i}}.{name}" for name in names)
        rows += [
            (f"{ours}.attention_norm", norm),
            (f"{ours}.attention.qkv", tuple(f"{attention}.{part}" for part in ("qk#q", "qk#k", "v"))),
            (f"{ours}.attention.output", f"{attention}.proj"),
            (f"{ours}.mlp_norm", second),
            (f"{ours}.mlp.expand", f"{mlp}.fc1"),
            (f"{ours}.mlp.contract", f"{mlp}.fc2"),
        ]
    return tuple(rows)


def _unread(model: Any) -> dict[str, Tensor]:
    """The zeros that the authors' code keeps for the sentences, and does not read."""
    rows, columns = model.patches.grid
    return {"outer_tokens": torch.zeros(1, rows * columns, model.num_features)}


LAYOUTS = (
    QueriesWithKeys(
        "timm",
        _rows(
            (
                ("patches.words.projection", "pixel_embed.proj"),
                ("patches.words.positions", "pixel_pos", "1 c my mx -> 1 (my mx) c"),
                ("positions", "patch_pos"),
            ),
            ("norm1_proj", "norm2_proj"),
            ("norm_in", "attn_in", "norm_mlp_in", "mlp_in"),
            ("norm_out", "attn_out", "norm_mlp", "mlp"),
        ),
        sizes=_sizes,
    ),
    QueriesWithKeys(
        "the authors",
        _rows(
            (
                ("patches.words.projection", "patch_embed.proj"),
                ("patches.words.positions", "inner_pos"),
                ("positions", "outer_pos"),
            ),
            ("proj_norm1", "proj_norm2"),
            ("inner_norm1", "inner_attn", "inner_norm2", "inner_mlp"),
            ("outer_norm1", "outer_attn", "outer_norm2", "outer_mlp"),
        ),
        derived=_unread,
        writes_derived=True,
    ),
)


@foreign.register
def _(model: TNT) -> Foreign:
    return Foreign(LAYOUTS, ("head",), "patches.words.projection.weight", stored)
