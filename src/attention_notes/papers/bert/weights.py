"""How ``transformers`` names the weights of BERT."""

from typing import Any

from attention_notes.papers.bert.model import BERT, PreTraining
from attention_notes.weights import Foreign, Tensors, foreign, length
from attention_notes.weights.layouts import Layout, Row

ROWS: tuple[Row, ...] = (
    ("embeddings.tokens", "embeddings.word_embeddings"),
    ("embeddings.positions", "embeddings.position_embeddings"),
    ("embeddings.segments", "embeddings.token_type_embeddings"),
    ("embeddings.norm", "embeddings.LayerNorm"),
    *((f"layers.{{i}}.attention.{x}", f"encoder.layer.{{i}}.attention.self.{x}") for x in ("query", "key", "value")),
    ("layers.{i}.attention.output", "encoder.layer.{i}.attention.output.dense"),
    ("layers.{i}.attention_norm", "encoder.layer.{i}.attention.output.LayerNorm"),
    ("layers.{i}.mlp.expand", "encoder.layer.{i}.intermediate.dense"),
    ("layers.{i}.mlp.contract", "encoder.layer.{i}.output.dense"),
    ("layers.{i}.mlp_norm", "encoder.layer.{i}.output.LayerNorm"),
    ("pooler", "pooler.dense"),
)
HEADS: tuple[Row, ...] = (
    ("transform", "cls.predictions.transform.dense"),
    ("norm", "cls.predictions.transform.LayerNorm"),
    ("bias", "cls.predictions.bias"),
    ("follows", "cls.seq_relationship"),
)
TIED = {
    "cls.predictions.decoder.weight": "the table of the tokens once more",
    "cls.predictions.decoder.bias": "the bias of the words once more",
}
NUMBERS = {"embeddings.position_ids": "numbers in their order, in older files"}


def prefixed(rows: tuple[Row, ...], *, ours: str, theirs: str) -> tuple[Row, ...]:
    """The same rows, with something in front of both names."""
    return tuple((f"{ours}{row[0]}", f"{theirs}{row[1]}") for row in rows)


def older(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """The rows of files that call the two tensors of a norm gamma and beta, as the first published ones do."""
    found: list[Row] = []
    for ours, theirs in ((str(row[0]), str(row[1])) for row in rows):
        if theirs.endswith("LayerNorm"):
            found += [(f"{ours}.weight", f"{theirs}.gamma"), (f"{ours}.bias", f"{theirs}.beta")]
        else:
            found.append((ours, theirs))
    return tuple(found)


def layouts_of(rows: tuple[Row, ...], unused: dict[str, str]) -> tuple[Layout, ...]:
    """As transformers writes them now, and as the first files have them."""
    return Layout("transformers", rows, unused=unused), Layout("transformers, older", older(rows), unused=unused)


WITH_HEADS = (*prefixed(ROWS, ours="bert.", theirs="bert."), *HEADS)
BARE = {f"bert.{name}": why for name, why in NUMBERS.items()} | {"cls": "the heads of pre-training"}
PRETRAINING = layouts_of(WITH_HEADS, TIED | {f"bert.{name}": why for name, why in NUMBERS.items()})
ENCODER = layouts_of(prefixed(ROWS, ours="", theirs="bert."), BARE)
LAYOUTS = (*ENCODER, *(layout.bare("bert.", unused=NUMBERS) for layout in ENCODER))


def stored(model: BERT | PreTraining, tensors: Tensors) -> dict[str, Any]:
    """Vocabulary, width, positions, segments, depth and the width of the perceptrons, as the tensors tell them."""
    before = "bert." if isinstance(model, PreTraining) else ""
    found: dict[str, Any] = {}
    if (table := tensors(f"{before}embeddings.tokens.weight")) is not None:
        found["vocabulary"], found["dim"] = table.shape
    for name, part in (("length", "positions"), ("segments", "segments")):
        if (table := tensors(f"{before}embeddings.{part}.weight")) is not None:
            found[name] = len(table)
    if depth := length(tensors, before + "layers.{i}.mlp.expand.bias"):
        found["layers"] = depth
        found["hidden"] = len(tensors(f"{before}layers.0.mlp.expand.bias"))
    return found


@foreign.register
def _(model: BERT) -> Foreign:
    return Foreign(LAYOUTS, (), "", stored)


@foreign.register
def _(model: PreTraining) -> Foreign:
    return Foreign(PRETRAINING, (), "", stored)
