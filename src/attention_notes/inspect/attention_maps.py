"""See where a model looks: the attention of every layer, and its rollout, over the image.

``see(model, images)`` runs the model once. Each layer then answers in pixels, whatever became of its tokens inside:
class tokens in front, windows folded into the batch, cyclic shifts, padding, keys that were pooled.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from math import prod
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attention_notes.inspect.record import record_attention
from attention_notes.inspect.token_geometry import At, Grid, Places, attends, makes_maps, places_of, window


@dataclass(frozen=True)
class Gaze:
    """Where attention went: shares that sum to one over places, extra tokens and padding.

    Args:
        places: the share of each cell of ``grid``; for a layer ``b h gy gx``, for a rollout ``b gy gx``.
        extra: the shares of the class and the distillation token, none where there are none.
        padding: what went to tokens that fill up windows and lie outside the image.
        grid: the cells over the image.
    """

    places: Float[Tensor, "*b gy gx"]
    extra: Float[Tensor, "*b e"]
    padding: Float[Tensor, "*b"]
    grid: Grid

    def over_image(self, mode: Literal["nearest", "bilinear"] = "nearest") -> Float[Tensor, "*b y x"]:
        """The shares at the image's size, to be drawn: a cell's share stands at each of its pixels."""
        return self.grid.over_image(self.places, mode)


def _gaze(slots: Tensor, grid: Grid) -> Gaze:
    extra = slots.shape[-1] - 1 - prod(grid.size)
    return Gaze(slots[..., 1 + extra :].unflatten(-1, grid.size), slots[..., 1 : 1 + extra], slots[..., 0], grid)


@dataclass(frozen=True, eq=False)
class Layer:
    """What one attention did: its raw ``weights`` with windows folded into the batch, and where queries and keys lie.

    ``places`` is None where tokens are no places of an image, as in a text or a clip.
    """

    name: str
    weights: Float[Tensor, "s h n m"]
    places: Places | None

    @property
    def extra(self) -> int:
        """How many of the tokens are no places: one with a class token, two with a distillation token as well."""
        return self.placed.extra

    @property
    def placed(self) -> Places:
        """The places. Raises ``ValueError`` where there are none."""
        if self.places is None:
            raise ValueError(
                f"{self.name!r} has no map over an image: its tokens are those of a text, a sequence or a clip, or of "
                f"a module whose places are not known; its weights, {tuple(self.weights.shape)}, are in .weights"
            )
        return self.places

    def map(self, at: At) -> Gaze:
        """Where a place looks, in each head: ``b h gy gx`` over the whole grid of the keys, zero where it cannot look.

        Args:
            at: row and column of a pixel of the image that the model was given, or ``"class"`` or ``"distillation"``.

        Raises:
            ValueError: if the layer has no places, or not that one.
        """
        places = self.placed
        window, query = divmod(int(self._rows()[places.slot(at)]), self.weights.shape[-2])
        row = self.weights.unflatten(0, (-1, len(places.queries)))[:, window, :, query]
        return _gaze(self._slots(row, places.answers[window]), places.keys)

    def back(self, shares: Float[Tensor, "b t"]) -> Float[Tensor, "b t"]:
        """Propagate shares one layer back, r A with the heads averaged; the share of padding stays there."""
        places, (s, n) = self.placed, (len(self.placed.queries), self.weights.shape[-2])
        asked = shares.new_zeros(len(shares), s * n).index_add(1, self._rows()[1:], shares[:, 1:])
        weights = self.weights.mean(1).to(shares.dtype).unflatten(0, (-1, s))
        given = torch.einsum("bsn,bsnm->bsm", asked.unflatten(1, (s, n)), weights)
        slots = self._slots(given.flatten(1), places.answers.flatten())
        if places.keys is not places.grid:
            cells = 1 + places.extra
            below = places.keys.back(slots[:, cells:].unflatten(1, places.keys.size))
            slots = torch.cat([slots[:, :cells], below.flatten(1)], 1)
        return slots + F.pad(shares[:, :1], (0, slots.shape[1] - 1))

    def _rows(self) -> Int[Tensor, " t"]:
        """For each slot, its row as a query in the weights, all windows one after the other."""
        queries = self.placed.queries.flatten()
        rows = torch.zeros(1 + self.placed.extra + prod(self.placed.grid.size), dtype=torch.long)
        if self.weights.shape[-2] > 1:  # else one row serves all queries
            rows[queries] = torch.arange(len(queries))
        return rows.to(self.weights.device)

    def _slots(self, shares: Tensor, at: Tensor) -> Tensor:
        slots = shares.new_zeros(*shares.shape[:-1], 1 + self.placed.extra + prod(self.placed.keys.size))
        return slots.index_add(-1, at.to(shares.device), shares)


@dataclass(frozen=True, eq=False)
class Seen:
    """One forward pass: the model's ``output``, and its attention layers by name, in the order in which they ran."""

    output: Any
    layers: dict[str, Layer]

    def rollout(self, at: At | None = None) -> Gaze:
        """Attention rollout from the output back to the first layer's cells (Abnar & Zuidema 2020, section 3).

            r  <-  (r A + r) / 2    for each layer, the last one first, A the mean of its heads

        ``r`` starts as one at a place of the last map, or, without ``at``, at what stands for the image: the extra
        tokens in equal parts, the whole map where there are none. A reduced key and a merged token hand their share to
        what they were made from, in equal parts (``Grid.back``). Softmaxes side by side in one block count as one,
        their mean. What reaches padding, or a token that joined on the way, stays there: the total stays one. ``r`` is
        a row of the matrix of ``rollout``, which is never made.

        It follows weights alone: it ignores values, gates, MLPs and norms, and of convolutions it knows only from
        where to where they make a map smaller.

        Raises:
            ValueError: if a layer has no places, or the last one not that one.
        """
        layers = list(self.layers.values())[::-1]
        last, weights = layers[0].placed, layers[0].weights
        grid, images = last.grid, len(weights) // len(last.queries)
        start = torch.zeros(1 + last.extra + prod(grid.size))
        chosen = last.slot(at) if at is not None else slice(1, 1 + last.extra) if last.extra else slice(1, None)
        start[chosen] = 1
        start = (start / start.sum()).to(weights.device, torch.promote_types(weights.dtype, torch.float32))
        joined, cells = start.expand(images, -1).split([1 + last.extra, prod(grid.size)], 1)
        for places, group in groupby(layers, key=lambda layer: layer.placed):
            while grid is not places.grid and grid.below:
                cells, grid = grid.back(cells.unflatten(1, grid.size)).flatten(1), grid.below
            here = 1 + places.extra  # a token that joins later waits
            r = torch.cat([joined[:, :here], cells], 1)
            r = (r + torch.stack([layer.back(r) for layer in group]).mean(0)) / 2
            joined, cells = torch.cat([r[:, :here], joined[:, here:]], 1), r[:, here:]
        return _gaze(torch.cat([joined, cells], 1), grid)


@torch.no_grad()
def see(model: nn.Module, *inputs: Tensor) -> Seen:
    """Run ``model`` once, in evaluation, and keep what every attention layer did.

    The output is that of the model alone without gradients, to the last bit, and the model is left in the mode in which
    it was. Any model with softmax attention can be seen; those of this package that look at images also know places.

    Args:
        model: a model whose attention ``record_attention`` can record.
        inputs: what it is called with; pixels are those of the first.

    Raises:
        RuntimeError: if no softmax attention ran, as in a model without any.

    Example:
        >>> seen = see(vit("B/16"), images)
        >>> seen.layers["blocks.11.attention"].map("class").places.shape  # b h gy gx
        >>> seen.rollout().over_image("bilinear").shape  # b y x
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with record_attention(model) as maps, _watching(model, maps, inputs[0]) as places:
            output = model(*inputs)
    finally:
        for module, training in modes:  # parents first: a part may be in another mode than the whole
            module.train(training)
    return Seen(output, {name: Layer(name, weights, places.get(name)) for name, weights in maps.items()})


@contextmanager
def _watching(model: nn.Module, maps: dict[str, Tensor], images: Tensor) -> Iterator[dict[str, Places]]:
    """Follow the map through the modules that make it smaller, and give every attention recorded its places."""
    grid = Grid((images.shape[2], images.shape[3])) if images.ndim == 4 else None
    known: dict[str, Places] = {}
    attending: list[int] = []  # how many maps there were when the attention began that is running

    def made(module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal grid
        if grid is None or attending or out.shape[-2:] == args[0].shape[-2:]:
            return
        cut = window(module, grid.size)
        if cut and all(k >= s for k, s in zip(cut.kernel, cut.stride, strict=True)):  # a shortcut leaves cells out
            given = args[0].shape[2:] if cut.channels == 1 else args[0].shape[1:-1]
            grid = grid.through(module) if given == grid.size else None

    def began(*_: Any) -> None:
        attending.append(len(maps))

    def ended(module: nn.Module, args: tuple[Tensor, ...], _: Any) -> None:
        names = list(maps)[attending.pop() :]
        places = None if grid is None else places_of(module, args[0], grid)
        if places is not None:
            known.update((name, places) for name in names if _fits(maps[name], places, len(args[0])))

    handles = []
    for module in model.modules():
        if makes_maps(module):
            handles.append(module.register_forward_hook(made))
        if attends(module):
            handles += [module.register_forward_pre_hook(began), module.register_forward_hook(ended)]
    try:
        yield known
    finally:
        for handle in handles:
            handle.remove()


def _fits(weights: Tensor, places: Places, images: int) -> bool:
    (s, n), m = places.queries.shape, places.answers.shape[1]
    return weights.shape[0] == images * s and weights.shape[-2] in (1, n) and weights.shape[-1] == m
