"""How ``transformers`` names and shapes the weights of iGPT: as those of GPT-2, with a head of its own."""

from typing import Any

from attention_notes.papers.gpt import weights as gpt
from attention_notes.papers.igpt.model import ImageGPT
from attention_notes.weights import Foreign, Tensors, foreign
from attention_notes.weights.layouts import Layout

ROWS = (
    *gpt.rows("transformer.", tokens="wte.weight", positions="wpe.weight", norms=("ln_1", "ln_2")),
    ("output", "lm_head"),
)
LAYOUT = Layout("transformers", ROWS, unused=gpt.UNUSED)


def stored(model: ImageGPT, tensors: Tensors) -> dict[str, Any]:
    """Colours, width, context and depth, as the shapes of the tensors tell them."""
    found = gpt.stored(model, tensors)
    if "vocabulary" in found:
        found["colours"] = found.pop("vocabulary") - 1  # the last is the start token
    return found


@foreign.register
def _(model: ImageGPT) -> Foreign:
    return Foreign((LAYOUT,), (), "", stored)
