"""Averaging Is Nearly Enough.

A paper that was never written. The idea: every patch is given the mean of all patches.

Departures: none.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from attention_notes.nn.checkpointing import Blocks
from attention_notes.nn.sizes import Size
from attention_notes.nn.vision import Backbone, Indices, linear_head, maps_after
from attention_notes.papers.vit import PatchEmbedding
from attention_notes.weights.pretrained import pretrainable


class Averaging(nn.Module):
    """x + W mean(x): every token gets the same map of the mean of all tokens (equation 1).

    Args:
        dim: width ``c`` of the tokens.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.output = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Add the mean, mapped."""
        return x + self.output(x.mean(1, keepdim=True))


class Classifier(Backbone):
    """Patches, two averagings with non-linearities around them, and a head on the mean."""

    def __init__(self, dim: int, *, patch: int, image_size: Size, num_classes: int | None) -> None:
        super().__init__()
        self.num_features = dim
        self.patches = PatchEmbedding(dim, image_size=image_size, patch=patch)
        self.blocks = Blocks(*(nn.Sequential(nn.GELU(), Averaging(dim), nn.GELU()) for _ in range(2)))
        self.head = linear_head(dim, num_classes)
        self.start_head(self.head)

    def features(
        self, images: Float[Tensor, "b 3 y x"], out_indices: Indices | None = None
    ) -> list[Float[Tensor, "b c gy gx"]]:
        """The tokens after each block, on their grid."""
        x, grid = self.patches(images), self.patches.grid
        return maps_after(self.blocks, x, out_indices, run=self.blocks.run, as_map=lambda x: x.mT.unflatten(2, grid))

    def resize(self, image_size: Size) -> "Classifier":
        """Expect images of another size."""
        self.patches.resize(image_size)
        return self

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b k"]:
        """Logits of the ``k`` classes."""
        return self.head(self.blocks(self.patches(images)).mean(1))


# table 1
VARIANTS: dict[str, dict[str, Any]] = {"tiny": {"dim": 16, "patch": 16}}


@pretrainable
def averaging(variant: str, *, num_classes: int | None = 1000, image_size: Size = 224) -> Classifier:
    """A classifier by its name. Raises ``ValueError`` if the variant is unknown."""
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}; known: {', '.join(VARIANTS)}")
    return Classifier(**VARIANTS[variant], image_size=image_size, num_classes=num_classes)
