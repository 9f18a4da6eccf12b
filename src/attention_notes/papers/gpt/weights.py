"""How ``transformers`` names and shapes the weights of GPT and GPT-2."""

from typing import Any

from attention_notes.papers.gpt.model import GPT
from attention_notes.weights import Foreign, Tensors, foreign, length
from attention_notes.weights.layouts import Layout, Row

MAP = "i o -> o i"  # their maps are Conv1D, which stores W transposed
UNUSED = {
    f"{prefix}{name}": why
    for prefix in ("", "transformer.")
    for name, why in (
        ("h.{i}.attn.bias", "the causal mask, in older files"),
        ("h.{i}.attn.masked_bias", "what is added where the mask forbids, in older files"),
        ("position_ids", "numbers in their order, in older files"),
    )
}
HEAD = {"lm_head.weight": "the table of the tokens once more"}


def rows(prefix: str, *, tokens: str, positions: str, norms: tuple[str, str]) -> tuple[Row, ...]:
    """Their names, given those of the two tables, and which of ours ``ln_1`` and ``ln_2`` are: before, or after."""
    block = f"{prefix}h.{{i}}"
    maps = (
        (tuple(f"layers.{{i}}.attention.{name}" for name in ("query", "key", "value")), f"{block}.attn.c_attn"),
        ("layers.{i}.attention.output", f"{block}.attn.c_proj"),
        ("layers.{i}.mlp.expand", f"{block}.mlp.c_fc"),
        ("layers.{i}.mlp.contract", f"{block}.mlp.c_proj"),
    )
    table: list[Row] = [("tokens.weight", f"{prefix}{tokens}"), ("positions.weight", f"{prefix}{positions}")]
    for ours, theirs in maps:
        for leaf, pattern in (("weight", (MAP,)), ("bias", ())):
            mine = tuple(f"{name}.{leaf}" for name in ours) if isinstance(ours, tuple) else f"{ours}.{leaf}"
            table.append((mine, f"{theirs}.{leaf}", *pattern))
    table += [(f"layers.{{i}}.residuals.{j}.norm", f"{block}.{norm}") for j, norm in enumerate(norms)]
    return (*table, ("last", f"{prefix}ln_f"))


def stored(model: GPT, tensors: Tensors) -> dict[str, Any]:
    """Vocabulary, width, context and depth, as the shapes of the tensors tell them."""
    found: dict[str, Any] = {}
    if (table := tensors("tokens.weight")) is not None:
        found["vocabulary"], found["dim"] = table.shape
    if (table := tensors("positions.weight")) is not None:
        found["context"] = len(table)
    if depth := length(tensors, "layers.{i}.mlp.expand.bias"):
        found["layers"] = depth
    return found


_GPT = Layout(
    "transformers, GPT",
    rows("transformer.", tokens="tokens_embed.weight", positions="positions_embed.weight", norms=("ln_1", "ln_2")),
    unused=UNUSED | HEAD,
)
_GPT2 = Layout(
    "transformers",
    rows("transformer.", tokens="wte.weight", positions="wpe.weight", norms=("ln_1", "ln_2")),
    unused=UNUSED | HEAD,
)
LAYOUTS = (_GPT2, _GPT2.bare("transformer."), _GPT, _GPT.bare("transformer."))


@foreign.register
def _(model: GPT) -> Foreign:
    return Foreign(LAYOUTS, (), "", stored)
