"""How transformers names the weights of BERT."""

import re
from collections.abc import Mapping

from torch import Tensor

ROWS = (
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
HEADS = (
    ("transform", "cls.predictions.transform.dense"),
    ("norm", "cls.predictions.transform.LayerNorm"),
    ("follows", "cls.seq_relationship"),
)
TIED = ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias")  # what BertForPreTraining stores twice


def from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a BertModel or a BertForPreTraining, under our names.

    Raises:
        ValueError: if there is a name that neither has.
    """
    kept = {name: x for name, x in state.items() if name not in TIED and not name.endswith("position_ids")}
    return {_renamed(name, 1, 0): x for name, x in kept.items()}


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The way back; a model for pre-training gets the two tied tensors, too."""
    theirs = {_renamed(name, 0, 1): x for name, x in state.items()}
    if "bias" in state:
        theirs[TIED[0]], theirs[TIED[1]] = state["bert.embeddings.tokens.weight"], state["bias"]
    return theirs


def _renamed(name: str, source: int, target: int) -> str:
    bias = ("bias", "cls.predictions.bias")
    if name == bias[source]:
        return bias[target]
    rows = (*((f"{p}{a}", f"{p}{b}") for p in ("", "bert.") for a, b in ROWS), *HEADS)
    for row in rows:
        pattern = re.escape(row[source]).replace(r"\{i\}", r"(\d+)") + r"\.(weight|bias)"
        if found := re.fullmatch(pattern, name):
            *index, kind = found.groups()
            return f"{row[target].replace('{i}', ''.join(index))}.{kind}"
    raise ValueError(f"{name!r} is no weight of BertModel or BertForPreTraining: leave it out of the state")
