"""How others name and shape the weights of a DeiT; one without a distillation token is a ``vit``."""

from collections.abc import Callable
from typing import Any

from attention_notes.papers.deit.model import DistilledVisionTransformer
from attention_notes.papers.vit import weights as vit
from attention_notes.weights import Foreign, foreign
from attention_notes.weights.layouts import Layout, Row


def _sizes(model: Any) -> dict[str, int]:
    return vit.sizes(model.encoder)


def stored_size(model: Any, theirs: Callable[[str], Any]) -> tuple[int, int] | None:
    """As for a ``vit``."""
    return vit.stored_size(model.encoder, theirs, "encoder.positions")


def _distilled(rows: tuple[Row, ...], *, token: str, heads: tuple[str, str]) -> tuple[Row, ...]:
    """The rows of a ViT, a level deeper, with the second token and the second head."""
    encoder = tuple((f"encoder.{row[0]}", *row[1:]) for row in rows if row[0] != "head")
    own = (("encoder.pooling.distillation", token), ("class_head", heads[0]), ("distillation_head", heads[1]))
    return (*own, *encoder)


_CLASSIFIERS = "cls_classifier", "distillation_classifier"

LAYOUTS = (
    Layout("timm", _distilled(vit.TIMM_ROWS, token="dist_token", heads=("head", "head_dist")), sizes=_sizes),
    *(
        Layout(name, _distilled(rows, token="deit.embeddings.distillation_token", heads=_CLASSIFIERS), sizes=_sizes)
        for name, rows in (
            ("transformers", vit.transformers_rows("deit.")),
            ("transformers, as loaded", vit.loaded_rows("deit.")),
        )
    ),
)


@foreign.register
def _(model: DistilledVisionTransformer) -> Foreign:
    heads = ("class_head", "distillation_head")
    return Foreign(LAYOUTS, heads, "encoder.patches.projection.weight", stored_size, fixed_size=True)
