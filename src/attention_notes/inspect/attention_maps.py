"""See where a model looks: the attention of every layer, and its rollout, over the image.

``see(model, images)`` runs the model once. Each layer then answers in pixels, whatever became of its tokens inside:
class tokens in front, windows folded into the batch, cyclic shifts, padding, keys that were pooled.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from math import prod
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attention_notes.inspect import foreign
from attention_notes.inspect.evaluation import evaluation
from attention_notes.inspect.listen import in_this_thread
from attention_notes.inspect.record import record_attention
from attention_notes.inspect.relevance import attention_times_gradient
from attention_notes.inspect.token_geometry import (
    At,
    Grid,
    Pair,
    Places,
    attends,
    extra_tokens,
    makes_maps,
    places_of,
    window,
)


@dataclass(frozen=True)
class Gaze:
    """Where attention went: shares that sum to one over places, extra tokens and padding; or a relevance to a score.

    Args:
        places: the share of each cell of ``grid``; for a layer ``b h gy gx``, for a rollout ``b gy gx``.
        extra: the shares of the class token, the distillation token, registers; none where there are none.
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

    ``places`` is None where tokens are no places of an image, as in a text or a clip, or where they could not be
    followed; ``reason`` then says why.
    """

    name: str
    weights: Float[Tensor, "s h n m"]
    places: Places | None
    reason: str = ""

    @property
    def extra(self) -> int:
        """How many of the tokens are no places: one with a class token, two with a distillation token as well."""
        return self.placed.extra

    @property
    def placed(self) -> Places:
        """The places. Raises ``ValueError`` where there are none."""
        if self.places is None:
            raise ValueError(
                f"{self.name!r} was recorded, but has no map over an image: {self.reason}; its weights, "
                f"{tuple(self.weights.shape)}, are in .weights"
            )
        return self.places

    def map(self, at: At) -> Gaze:
        """Where a place looks, in each head: ``b h gy gx`` over the whole grid of the keys, zero where it cannot look.

        A place that is a key only, as a patch where the class token alone asks, keeps what it has: all is its own.

        Args:
            at: row and column of a pixel of the image that the model was given, or an extra token: ``"class"``,
                ``"distillation"``, ``"register 1"``...

        Raises:
            ValueError: if the layer has no places, or not that one.
        """
        places = self.placed
        if (slot := places.slot(at)) not in places.queries:
            slots = 1 + places.extra + prod(places.grid.size)
            own = self.weights.new_zeros(len(self.weights) // len(places.queries), self.weights.shape[1], slots)
            own[..., slot] = 1
            return _gaze(own, places.grid)
        window, query = divmod(int(self._rows()[slot]), self.weights.shape[-2])
        row = self.weights.unflatten(0, (-1, len(places.queries)))[:, window, :, query]
        return _gaze(self._slots(row, places.answers[window]), places.keys)

    def back(self, shares: Float[Tensor, "b t"]) -> Float[Tensor, "b t"]:
        """Propagate shares one layer back, r A with the heads averaged; what asks nothing keeps its share."""
        places, (s, n) = self.placed, (len(self.placed.queries), self.weights.shape[-2])
        kept = self.kept(shares)
        asked = shares.new_zeros(len(shares), s * n).index_add(1, self._rows()[1:], (shares - kept)[:, 1:])
        weights = self.weights.mean(1).to(shares.dtype).unflatten(0, (-1, s))
        given = torch.einsum("bsn,bsnm->bsm", asked.unflatten(1, (s, n)), weights)
        slots = self._slots(given.flatten(1), places.answers.flatten())
        if places.keys is not places.grid:
            cells = 1 + places.extra
            below = places.keys.back(slots[:, cells:].unflatten(1, places.keys.size))
            slots = torch.cat([slots[:, :cells], below.flatten(1)], 1)
        return slots + kept

    def kept(self, shares: Float[Tensor, "b t"]) -> Float[Tensor, "b t"]:
        """The shares of padding, and of tokens that are keys only, as patches where the class token alone asks."""
        idle = torch.ones(shares.shape[1], dtype=torch.bool)
        idle[self.placed.queries.flatten()] = False
        idle[0] = True
        return shares * idle.to(shares.device)

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
        where to where they make a map smaller. Layers on a map beside this one, as on the words of a TNT, are left out.

        Raises:
            ValueError: if a layer has no places, or the last one not that one.
        """

        def half(r: Tensor, backs: list[Tensor], kept: Tensor) -> Tensor:
            return (r + torch.stack(backs).mean(0)) / 2

        return _walk(list(self.layers.values()), at, half)

    def gradient_rollout(self, score: Float[Tensor, "..."], at: At | None = None) -> Gaze:
        """How each of the first layer's cells raises a score, by way of all layers (Chefer, Gur & Wolf 2021).

            r  <-  r + r Ā    for each layer, the last one first, Ā the mean over its heads of max(0, ∂y/∂A ⊙ A)

        ``r`` starts as in ``rollout``, and goes back to finer cells as there; it is a row of the matrix of
        ``attention_notes.inspect.gradient_rollout``, where the equations stand. It is never negative, and its scale is
        that of the score. Softmaxes side by side in one block add up. A row that serves all queries is taken to act by
        each of them in the same way.

        Args:
            score: what is asked about, computed from ``output``, such as ``seen.output[:, 207]``: one number an image.
            at: the place or the token that the head reads; when not given, as in ``rollout``.

        Raises:
            ValueError: as ``rollout``, and if ``see`` was called without ``gradients=True`` or the score does not
                depend on the weights.
        """
        products = attention_times_gradient({name: layer.weights for name, layer in self.layers.items()}, score)
        layers = []
        for name, layer in self.layers.items():
            raising = products[name].clamp(min=0)
            if raising.shape[-2] == 1:  # its gradient is the sum over the queries
                raising = raising / layer.placed.queries.shape[1]
            layers.append(replace(layer, weights=raising))

        def added(r: Tensor, backs: list[Tensor], kept: Tensor) -> Tensor:
            return r + torch.stack([back - kept for back in backs]).sum(0)

        return _walk(layers, at, added)


def _walk(layers: list[Layer], at: At | None, mixed: Callable[[Tensor, list[Tensor], Tensor], Tensor]) -> Gaze:
    """From the last layer's places to the first one's.

    ``mixed`` is given r, what each softmax of a block made, and what has stayed because nobody asked with it.
    """
    layers = layers[::-1]
    last, weights = layers[0].placed, layers[0].weights
    grid, images = last.grid, len(weights) // len(last.queries)
    start = torch.zeros(1 + last.extra + prod(grid.size))
    chosen = last.slot(at) if at is not None else slice(1, 1 + last.extra) if last.extra else slice(1, None)
    start[chosen] = 1
    start = (start / start.sum()).to(weights.device, torch.promote_types(weights.dtype, torch.float32))
    joined, cells = start.expand(images, -1).split([1 + last.extra, prod(grid.size)], 1)
    for places, group in groupby(layers, key=lambda layer: layer.placed):
        if not _made_from(grid, places.grid):
            continue
        while grid is not places.grid and grid.below:
            cells, grid = grid.back(cells.unflatten(1, grid.size)).flatten(1), grid.below
        here = 1 + places.extra  # a token that joins later waits
        r = torch.cat([joined[:, :here], cells], 1)
        block = [*group]
        r = mixed(r, [layer.back(r) for layer in block], block[0].kept(r))
        joined, cells = torch.cat([r[:, :here], joined[:, here:]], 1), r[:, here:]
    return _gaze(torch.cat([joined, cells], 1), grid)


def _made_from(grid: Grid | None, source: Grid) -> bool:
    """Whether a map is on a grid or was made from one on it; else it is beside it, as the words of a TNT."""
    return grid is not None and (grid is source or _made_from(grid.below, source))


def see(model: nn.Module, *inputs: Tensor, gradients: bool = False) -> Seen:
    """Run ``model`` once, in evaluation, and keep what every attention layer did.

    The output is that of the model alone without gradients, to the last bit, and the model is left in the mode in which
    it was. What ``record_attention`` can record can be seen. Places are known of this package's models that look at
    images, and of ViT, DeiT and Swin of timm, transformers and torchvision; of any other, once its modules are
    registered with ``places_of`` of ``attention_notes.inspect.token_geometry``. Any number of threads may see the same
    model. What ``torch.compile`` returned is seen as the model that it was made from.

    Args:
        model: a model whose attention ``record_attention`` can record.
        inputs: what it is called with; pixels are those of the first.
        gradients: whether output and weights keep their graph, for ``gradient_rollout``; attention is then computed
            from the weights instead of by the fused kernel.

    Raises:
        RuntimeError: if no softmax attention could be recorded, as in a model without any.

    Example:
        >>> seen = see(vit("B/16"), images)
        >>> seen.layers["blocks.11.attention"].map("class").places.shape  # b h gy gx
        >>> seen.rollout().over_image("bilinear").shape  # b y x
    """
    foreign.know(model)
    with (
        torch.set_grad_enabled(gradients),
        evaluation(model),
        record_attention(model, gradients=gradients) as maps,
        _watching(model, maps, inputs[0]) as found,
    ):
        output = getattr(model, "_orig_mod", model)(*inputs)
    layers = {}
    for name, weights in maps.items():
        places = found[name] if name in found else _no_image(inputs[0]) or _unknown(model, name)
        placed = (None, places) if isinstance(places, str) else (places, "")
        layers[name] = Layer(name, weights, *placed)
    return Seen(output, layers)


@contextmanager
def _watching(model: nn.Module, maps: dict[str, Tensor], images: Tensor) -> Iterator[dict[str, Places | str]]:
    """Follow the map through the modules that make it smaller, and give each attention its places, or say why not.

    The hooks are called by every thread that calls the model, and listen to this one.
    """
    grid: Grid | str = _no_image(images) or Grid((images.shape[2], images.shape[3]))
    found: dict[str, Places | str] = {}
    attending: list[int] = []  # how many maps there were when the attention began that is running
    in_front = {  # what the model around an attention says of the tokens in front of its cells
        part: names
        for whole in model.modules()
        if (names := extra_tokens(whole)) is not None
        for part in whole.modules()
    }

    def made(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        nonlocal grid
        x = _first(args, kwargs)
        if isinstance(grid, str) or attending or x is None or not isinstance(out, Tensor):
            return
        if out.shape[-2:] == x.shape[-2:]:
            return
        cut = window(module, grid.size)
        if cut and all(k >= s for k, s in zip(cut.kernel, cut.stride, strict=True)):  # a shortcut leaves cells out
            if _holds(x, cut.channels, grid.size):
                grid = grid.through(module)
            else:
                grid = f"a {type(module).__name__} was given {tuple(x.shape)}, not the map of {grid.size} before it"

    def began(*_: Any) -> None:
        attending.append(len(maps))

    def ended(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], _: Any) -> None:
        x = _first(args, kwargs)
        places = placed(module, x)
        for name in list(maps)[attending.pop() :]:
            found[name] = places
            if isinstance(places, Places) and not _fits(maps[name], places, images=len(x)):
                found[name] = f"they are no weights of a {type(module).__name__} on a map of {places.grid.size}"

    def placed(module: nn.Module, x: Any) -> Places | str:
        kind = type(module).__name__
        if isinstance(grid, str):
            return grid
        if x is None or (places := places_of(module, x, grid)) is None:
            return f"a {kind} was given {getattr(x, 'shape', x)}, no tokens of a map of {grid.size}"
        if module in in_front:
            places = replace(places, names=in_front[module])
        if places.names is None or len(places.names) != places.extra:
            return f"nobody says what the {places.extra} tokens are that a {kind} has in front of a map of {grid.size}"
        return places

    handles = []
    for module in model.modules():
        if makes_maps(module):
            handles.append(module.register_forward_hook(_untraced(made), with_kwargs=True))
        if attends(module):
            handles.append(module.register_forward_pre_hook(_untraced(began)))
            handles.append(module.register_forward_hook(_untraced(ended), with_kwargs=True))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _untraced(hook: Callable[..., None]) -> Callable[..., None]:
    """A hook of this thread that ``torch.compile``, if anybody uses it, leaves out of its graphs."""
    dynamo = sys.modules.get("torch._dynamo")  # which takes long to import
    return in_this_thread(hook if dynamo is None else dynamo.disable(hook))


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The tensor that a module was given first, by position or by name; None if there is none."""
    return next((x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)), None)


def _holds(x: Tensor, channels: int, size: Pair) -> bool:
    """Whether a module was given the map, or its cells in a row."""
    if channels == -1 and x.ndim == 3:
        return x.shape[1] == prod(size)
    return (x.shape[2:] if channels == 1 else x.shape[1:-1]) == size


def _no_image(given: Tensor) -> str:
    """Why there can be no places; nothing if there can."""
    return "" if given.ndim == 4 else f"the model was given {tuple(given.shape)}, and an image is b ch y x"


def _unknown(model: nn.Module, name: str) -> str:
    kind = type(model.get_submodule(name.partition("#")[0]))
    return (
        f"nothing is known of where a {kind.__module__}.{kind.__qualname__} has its tokens; register it with places_of "
        "of attention_notes.inspect.token_geometry"
    )


def _fits(weights: Tensor, places: Places, images: int) -> bool:
    if weights.ndim != 4:
        return False
    (s, n), m = places.queries.shape, places.answers.shape[1]
    return weights.shape[0] == images * s and weights.shape[-2] in (1, n) and weights.shape[-1] == m
