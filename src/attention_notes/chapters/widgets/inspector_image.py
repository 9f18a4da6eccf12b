"""The attention inspector over a picture: pick a place, a layer and a head, and see which places it looks at.

Where the places of a query and of its keys lie, ``see`` found: class tokens, windows, fewer keys than queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from attention_notes.chapters.plots import canvas
from attention_notes.chapters.plots.attention import looking
from attention_notes.chapters.widgets import Live, pack, picture
from attention_notes.chapters.widgets.inspector import planes_of
from attention_notes.inspect.attention_maps import Layer, Seen
from attention_notes.inspect.token_geometry import NAMES, At, Grid, Places

if TYPE_CHECKING:  # matplotlib takes longer to import than everything else here together
    from matplotlib.axes import Axes


def over_image(
    layers: Seen | Mapping[str, Layer],
    pictures: Float[Tensor, "b ch y x"],
    *,
    at: At | None = None,
    first: int = -1,
    names: Sequence[str] = (),
) -> Live:
    """An inspector of places: pick one on the picture, or an extra token, and see which places it looks at.

    Args:
        layers: what ``see`` saw of these pictures, or some of its layers by the names that a reader picks from.
            Any layer that has places will do: class tokens, windows, shifted or not, fewer keys than queries.
        pictures: as they are shown, grey or in colours from 0 to 1, in the order of the batch.
        at: the query that is shown first: a pixel, ``"class"`` or ``"distillation"``. When not given,
            the class token, or the middle.
        first: which layer to begin with, counted as in a list.
        names: what the pictures are called.

    Raises:
        ValueError: if a layer has no places, or there is more than a component can hold.
    """
    named = (
        {_label(i, layer): layer for i, layer in enumerate(layers.layers.values())}
        if isinstance(layers, Seen)
        else layers
    )
    every = list(named.values())
    first %= len(every)
    asks: At = at or ("class" if every[first].extra else (pictures.shape[2] // 2, pictures.shape[3] // 2))
    data = {
        "look": "image",
        "size": list(pictures.shape[2:]),
        "pictures": [picture(p) for p in pictures],
        "names": [*names] or [f"picture {i + 1}" for i in range(len(pictures))],
        "layers": [_image_layer(name, layer, len(pictures)) for name, layer in named.items()],
        "first": {"layer": first, "query": every[first].placed.slot(asks)},
    }
    who = f"the {asks} token" if isinstance(asks, str) else f"the place at row {asks[0]}, column {asks[1]}"
    alt = (
        f"An attention inspector over a picture. Choose a layer ({', '.join(named)}), a head and a place, and it shows "
        f"which places that one looks at. Where scripts are off, the picture and where {who} looks, mean of the heads."
    )
    return Live("inspector", data, alt=alt, still=_still(named, pictures[0], asks))


def over_frames(weights: Float[Tensor, "b h t t"], frames: Float[Tensor, "b t ch y x"], **options: Any) -> Live:
    """An inspector of clips, frame by frame: the frames stand side by side, and each looks at all as a whole.

    Args:
        weights: of the attention between frames.
        frames: as they are shown, grey or in colours from 0 to 1.
        options: those of ``over_image``; pixels are those of the row of frames.
    """
    t, (y, x) = frames.shape[1], frames.shape[3:]
    grid = Grid((1, t), ((y - 1) / 2, (x - 1) / 2), (y, x), below=Grid((y, t * x)))
    layer = Layer("frames", weights, Places.one(grid, t))
    return over_image({"from frame to frame": layer}, rearrange(frames, "b t ch y x -> b ch y (t x)"), **options)


def _label(index: int, layer: Layer) -> str:
    """A layer's number, and what is special about who may look at whom."""
    places, words = layer.placed, f"layer {index + 1}"
    if len(places.queries) > 1:
        shifted = int(places.queries[0, 0]) != 1 + places.extra
        words += f": {'shifted' if shifted else 'plain'} windows"
    if places.keys is not places.grid:
        words += ": {} x {} queries, {} x {} keys".format(*places.grid.size, *places.keys.size)
    return words


def _image_layer(name: str, layer: Layer, pictures: int) -> dict[str, Any]:
    places = layer.placed
    planes, weights = planes_of(layer.weights.float())
    if len(weights) != pictures * len(places.queries):
        raise ValueError(f"{name!r} saw {len(weights) // len(places.queries)} pictures; {pictures} are to be shown")
    return {
        "name": name,
        "planes": planes,
        "weights": pack(rearrange(weights, "(b s) p n m -> b s p n m", b=pictures).sqrt()),
        "queries": places.queries.tolist(),
        "answers": places.answers.tolist(),
        "extra": [f"{word} token" for word in NAMES[: places.extra]],
        "grid": _edges(places.grid),
        "keys": _edges(places.keys),
    }


def _edges(grid: Grid) -> list[list[float]]:
    """Between which pixels the rows, and the columns, of a grid lie: from one side of the image to the other."""
    edges = []
    for cells, middle, stride, side in zip(grid.size, grid.centre, grid.stride, grid.image, strict=True):
        inner = (middle + (i - 0.5) * stride + 0.5 for i in range(1, cells))
        edges.append([0.0, *(round(edge, 3) for edge in inner), float(side)])
    return edges


def _still(named: Mapping[str, Layer], image: Float[Tensor, "ch y x"], at: At) -> Axes:
    """The picture, and where ``at`` looks in the first four layers that know it."""
    shown = [(name, layer) for name, layer in named.items() if not isinstance(at, str) or layer.extra][:4]
    image = image.expand(3, -1, -1)
    width, ratio = 6.4, image.shape[1] / image.shape[2]
    axes = canvas(1, 1 + len(shown), width=width, height=width / (1 + len(shown)) * ratio + 0.4)
    ring = None if isinstance(at, str) else at
    looking(image, at=ring, title="the picture", ax=axes[0])
    for (name, layer), ax in zip(shown, axes[1:], strict=True):
        looking(image, layer.map(at).over_image()[0].mean(0), at=ring, title=name.replace(": ", "\n"), ax=ax)
    return axes[0]
