"""Draw where a model looks, over the image that it looks at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attention_notes.chapters.plots import COLOURS, HEAT, canvas
from attention_notes.inspect.attention_maps import see

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.Image import Image


def looking(
    image: Tensor | Image,
    shares: Float[Tensor, "y x"] | None = None,
    *,
    at: tuple[int, int] | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """An image in grey, over it where something looks, the brighter the more; a ring stands at the pixel ``at``.

    Args:
        image: ``3 y x``, in colours or normalised for a model: greys fill their range; or a picture of PIL.
        shares: at the image's size, as from ``Gaze.over_image``; where they are zero only grey is seen. None for none.
        at: row and column of a pixel.
        title: stands over the picture.
        ax: where to draw; a new canvas when not given.
    """
    light = _pixels(image).mean(0)
    grey = ((light - light.min()) / (light.max() - light.min()).clamp(min=1e-6)).numpy()
    if ax is None:
        (ax,) = canvas(width=3.2, height=3.2 * grey.shape[0] / grey.shape[1] + 0.3 * bool(title))
    ax.imshow(grey if shares is None else 0.75 * grey, cmap="gray", vmin=0, vmax=1)
    if shares is not None:
        part = (shares / shares.max().clamp(min=1e-12)).detach().float().cpu().numpy()
        ax.imshow(part, cmap=HEAT, vmin=0, vmax=1, alpha=0.8 * part**0.5, interpolation="nearest")
    if at is not None:
        for colour, width in (("white", 2.6), (COLOURS[1], 1.4)):  # seen on the dark and on the bright
            ax.plot(at[1], at[0], "o", ms=6, mfc="none", mec=colour, mew=width)
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=8)
    ax.spines[:].set_visible(False)
    return ax


def attention_over(
    model: nn.Module,
    image: Tensor | Image,
    *,
    at: tuple[int, int] | str | None = None,
    layers: Sequence[int] | None = None,
    prepare: Callable[[Any], Tensor] | None = None,
) -> Axes:
    """Where a model looks, in one call: the image, some layers with their heads averaged, and the rollout of all.

    Args:
        model: any model that ``see`` can map.
        image: ``3 y x``, as the model takes it; or a picture of PIL, whose colours become 0 to 1.
        at: who looks: the row and column of a pixel of the model's image, ``"class"`` or ``"distillation"``. When not
            given, what stands for the image; in a layer without a class token, the pixel in the middle.
        layers: which layers, counted from 0, or from the last as -1; an early, a middle and the last when not given.
        prepare: makes the model's input from ``image``, as its preprocessing does.

    Raises:
        ValueError: if a layer has no map over the image, or none such is there.
        RuntimeError: if the model has no softmax attention.
    """
    given = _pixels(image) if prepare is None else prepare(image)
    seen = see(model, given.to(next(model.parameters()).device)[None])
    found, middle = list(seen.layers.values()), (given.shape[1] // 2, given.shape[2] // 2)
    chosen = dict.fromkeys((0, len(found) // 2, len(found) - 1) if layers is None else layers)
    if wrong := [i for i in chosen if not -len(found) <= i < len(found)]:
        raise ValueError(f"no layers {wrong}: the model has {len(found)}, counted from 0")
    axes = canvas(1, len(chosen) + 2, width=6.4, height=6.4 / (len(chosen) + 2) * given.shape[1] / given.shape[2] + 0.3)
    looking(given, at=None if isinstance(at, str) else at, title="the image", ax=axes[0])
    for i, ax in zip(chosen, axes[1:], strict=False):
        asks = at or ("class" if found[i].extra else middle)
        shares = found[i].map(asks).over_image()[0].mean(0)
        title = f"layer {i % len(found) + 1} of {len(found)}"
        looking(given, shares, at=None if isinstance(asks, str) else asks, title=title, ax=ax)
    shares = seen.rollout(at).over_image()[0]
    looking(given, shares, at=None if isinstance(at, str) else at, title="rollout", ax=axes[-1])
    return axes[0]


def _pixels(image: Tensor | Image) -> Float[Tensor, "3 y x"]:
    """The colours of a tensor as they are, those of a picture of PIL from 0 to 1."""
    if isinstance(image, Tensor):
        return image.detach().float().cpu()
    import numpy

    return torch.from_numpy(numpy.asarray(image.convert("RGB")) / 255).float().movedim(-1, 0)
