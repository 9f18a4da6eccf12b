"""Where the patches of a CPVT lie on an image of any size; ``vit`` says it of the attention."""

from attention_notes.inspect.token_geometry import Pair, Window, window
from attention_notes.papers.cpvt.model import Patches


@window.register
def _(module: Patches, size: Pair) -> Window:
    (py, px), (y, x) = module.patch, size
    return Window(module.patch, module.patch, (0, 0), (y // py, x // px))
