"""A small head that names every pixel from the maps of a hierarchical model."""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class PyramidHead(nn.Module):
    """Bring the maps of all strides to one width and to the finest size, add them, and classify each place.

        logits = W relu(norm(sum_l up(V_l F_l)))

    A one-layer form of the head of semantic feature pyramids (Kirillov et al. 2019, arXiv 1901.02446, section 3.1).

    Args:
        widths: channels of each map, the finest map first.
        dim: common width.
        num_classes: classes of a pixel.
    """

    def __init__(self, widths: Sequence[int], *, dim: int, num_classes: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(width, dim, 1) for width in widths)
        self.norm = nn.GroupNorm(1, dim)
        self.classify = nn.Conv2d(dim, num_classes, 1)

    def forward(self, maps: Sequence[Float[Tensor, "b _ _ _"]], size: tuple[int, int]) -> Float[Tensor, "b k y x"]:
        """Logits of every pixel of an image of ``size``, from maps ``b c y x``, the finest first.

        Raises:
            ValueError: if there are more or fewer maps than widths.
        """
        if len(maps) != len(self.lateral):
            raise ValueError(f"{len(maps)} maps, but the head was built for {len(self.lateral)}")
        finest = (maps[0].shape[-2], maps[0].shape[-1])
        lifted = [lateral(x) for lateral, x in zip(self.lateral, maps, strict=True)]
        total = sum(_resized(x, finest) for x in lifted)
        return _resized(self.classify(F.relu(self.norm(total))), size)


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x if x.shape[-2:] == size else F.interpolate(x, size=size, mode="bilinear", align_corners=False)
