"""How others name and shape the weights of a DeiT; one without a distillation token is a ``vit``."""

from typing import Any

from attention_notes.papers.deit.model import DistilledVisionTransformer
from attention_notes.papers.vit import weights as vit
from attention_notes.weights import Foreign, Tensors, foreign
from attention_notes.weights.layouts import Layout, Row


def _sizes(model: Any) -> dict[str, int]:
    return vit.sizes(model.encoder)


def stored(model: Any, tensors: Tensors) -> dict[str, Any]:
    """As for a ``vit``."""
    return vit.stored(model.encoder, tensors, "encoder.")


def _distilled(rows: tuple[Row, ...], *, token: str, heads: tuple[str, str]) -> tuple[Row, ...]:
    """The rows of a ViT, a level deeper, with the second token and the second head."""
    encoder = tuple((f"encoder.{row[0]}", *row[1:]) for row in rows if row[0] != "head")
    own = (("encoder.pooling.distillation", token), ("class_head", heads[0]), ("distillation_head", heads[1]))
    return (*own, *encoder)


_CLASSIFIERS = "cls_classifier", "distillation_classifier"


def _transformers(name: str, rows: tuple[Row, ...]) -> Layout:
    token = "deit.embeddings.distillation_token"
    return Layout(name, _distilled(rows, token=token, heads=_CLASSIFIERS), sizes=_sizes)


_SAVED = _transformers("transformers", vit.transformers_rows("deit."))
_LOADED = _transformers("transformers, as loaded", vit.loaded_rows("deit."))
LAYOUTS = (
    Layout("timm", _distilled(vit.TIMM_ROWS, token="dist_token", heads=("head", "head_dist")), sizes=_sizes),
    _SAVED,
    _SAVED.bare("deit.", unused=vit.POOLER),
    _LOADED,
    _LOADED.bare("deit.", unused=vit.POOLER),
)


@foreign.register
def _(model: DistilledVisionTransformer) -> Foreign:
    heads = ("class_head", "distillation_head")
    return Foreign(LAYOUTS, heads, "encoder.patches.projection.weight", stored)
