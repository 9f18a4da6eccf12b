"""How torchvision names and shapes the weights of a ViT_C; with a patchify stem the model is a ``vit``."""

from attention_notes.papers.early_conv.model import ViTC
from attention_notes.papers.vit import weights as vit
from attention_notes.weights import Foreign, foreign
from attention_notes.weights.layouts import Layout, Row


def _rows(expand: str, contract: str) -> tuple[Row, ...]:
    """Those of a ViT, with the stem's in the place of the patches'."""
    trunk = tuple(row for row in vit.torchvision_rows(expand, contract) if not str(row[0]).startswith("patches"))
    stem = (
        ("patches.layers.{i}.0", "conv_proj.conv_bn_relu_{i}.0"),
        ("patches.layers.{i}.1", "conv_proj.conv_bn_relu_{i}.1"),
        ("patches.projection", "conv_proj.conv_last"),
    )
    return (*stem, *trunk)


LAYOUTS = (
    Layout("torchvision", _rows("linear_1", "linear_2")),  # its files; its modules read both
    Layout("torchvision, as loaded", _rows("0", "3")),
)


@foreign.register
def _(model: ViTC) -> Foreign:
    return Foreign(LAYOUTS, ("head",), "patches.layers.0.0.weight", vit.stored)
