"""The small models of this paper, and the same of every library that has them."""

from functools import partial

from attention_notes.papers.deit import deit
from tests.papers.vit.foreign import FLAT, huggings_vit, timms_vit
from tests.weights.parity import LOADED, Case

_deit = partial(deit, "Ti/16 distilled")
CASES = {
    "deit timm": Case(partial(_deit, **FLAT), partial(timms_vit, "deit"), "timm", (10, 21)),
    "deit transformers": Case(partial(_deit, **FLAT), partial(huggings_vit, "deit"), LOADED, (10, 21)),
}
LAYOUTS = {
    "deit": {
        "timm",
        "transformers",
        "transformers, without its head",
        "transformers, as loaded",
        "transformers, as loaded, without its head",
    }
}
