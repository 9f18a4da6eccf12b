"""Weights under other people's names: a layout is a table, loading and writing back are its two directions.

A row says which of our tensors is which of theirs, ``("blocks.{i}.mlp.expand", "blocks.{i}.mlp.fc1")``. A name that is
a module's stands for all of its tensors; ``{i}`` and ``{j}`` are numbers, and theirs may count otherwise, ``{i+1}`` or
``{2i+1}``. Where shapes differ, a pattern of einops says how theirs becomes ours. Where several of one side are one of
the other, they lie one after the other on its first axis. Each of these can be undone, so a table is a bijection; a
tensor that it does not name is an error.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from einops import EinopsError, rearrange
from torch import Tensor, nn

from attention_notes.nn.derived import remembered

State = Mapping[str, Tensor]
_AXES = re.compile(r"\([^)]*\)|\w+")
Row = tuple[str | tuple[str, ...], str | tuple[str, ...]] | tuple[str | tuple[str, ...], str | tuple[str, ...], str]


class Match(NamedTuple):
    """Names of ours and of theirs for the same numbers; ``pattern`` makes one of ours from one of theirs."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    pattern: str | None


@dataclass(frozen=True)
class Layout:
    """How somebody names and shapes the tensors of a model.

    Args:
        name: whose layout it is, such as ``"timm"``.
        rows: ``(ours, theirs)`` or ``(ours, theirs, pattern)``; the first row that fits one of our names counts.
        derived: what theirs may keep although it follows from the model's sizes, by their names, from a model: where it
            is there it is compared, and never taken.
        writes_derived: whether it has to be written, too.
        unused: patterns of names that our models have no use for, with the reason.
        sizes: lengths of the axes that patterns name, from a model.
    """

    name: str
    rows: tuple[Row, ...]
    derived: Callable[[Any], State] = lambda model: {}
    writes_derived: bool = False
    unused: Mapping[str, str] = field(default_factory=dict)
    sizes: Callable[[Any], Mapping[str, int]] = lambda model: {}

    def bare(self, prefix: str, *, unused: Mapping[str, str] = MappingProxyType({})) -> "Layout":
        """The same without a prefix of their names, as the trunk of their model has them when it is saved alone.

        ``unused`` are further names that our models have no use for, with the reason.
        """

        def cut(names: str | tuple[str, ...]) -> tuple[str, ...]:
            return tuple(name.removeprefix(prefix) for name in _tuple(names))

        def derived(model: Any) -> State:
            return {name.removeprefix(prefix): tensor for name, tensor in self.derived(model).items()}

        rows: Any = tuple((ours, cut(theirs), *pattern) for ours, theirs, *pattern in self.rows)
        name = f"{self.name}, without its head"
        return replace(self, name=name, rows=rows, derived=derived, unused={**self.unused, **unused})

    def match(self, name: str) -> Match:
        """The row of one of our tensors, with its numbers filled in.

        Raises:
            ValueError: if no row fits.
        """
        if (found := _match(self.rows, name)) is None:
            raise ValueError(f"{name} has no name in the layout of {self.name}")
        return found

    def unnamed(self, model: nn.Module) -> list[str]:
        """Names of the model's tensors that no row fits: where there are some, the layout is not one of such models."""
        return [name for name in _weights(model) if _match(self.rows, name) is None]

    def matches(self, names: Iterable[str]) -> list[Match]:
        """The rows of all of our tensors, each once."""
        return list(dict.fromkeys(self.match(name) for name in names))

    def wanted(self, model: nn.Module) -> set[str]:
        """Names of theirs that stand for the model's weights."""
        return {name for match in self.matches(_weights(model)) for name in match.theirs}

    def misfits(self, state: State, model: nn.Module) -> tuple[list[str], list[str]]:
        """Names of theirs that ``state`` lacks, and names in it that stand for nothing in ``model``."""
        wanted = self.wanted(model)
        unknown = state.keys() - wanted - self.derived(model).keys() - remembered(model)
        unused = [_regex(pattern) for pattern in self.unused]
        unknown = {name for name in unknown if not any(pattern.fullmatch(name) for pattern in unused)}
        return sorted(wanted - state.keys()), sorted(unknown)

    def to_theirs(self, model: nn.Module, state: State | None = None) -> dict[str, Tensor]:
        """The model's tensors by their names and in their shapes, as ``load_state_dict(strict=True)`` needs them.

        ``state`` may hold other tensors under the model's names, such as their gradients; what follows from the
        model's sizes is then left out.
        """
        ours = _weights(model, state)
        sizes, theirs = self.sizes(model), dict[str, Tensor]()
        for match in self.matches(ours):
            parts = [ours[name] for name in match.ours]
            if len(parts) > 1:
                axes = _axes(match.pattern, parts[0].ndim)
                parts = [torch.cat([part.flatten(0, part.ndim - axes) for part in parts])]
            undo = match.pattern and " -> ".join(reversed(match.pattern.split(" -> ")))
            pieces = parts[0].chunk(len(match.theirs)) if parts[0].ndim else parts  # a count of batches has no axis
            for name, piece in zip(match.theirs, pieces, strict=True):  # packed, as files of safetensors need them
                theirs[name] = _reshape(piece, undo, sizes).clone(memory_format=torch.contiguous_format)
        if self.writes_derived and state is None:
            theirs |= {name: tensor.clone() for name, tensor in self.derived(model).items()}
        return theirs

    def to_ours(self, state: State, model: nn.Module) -> dict[str, Tensor]:
        """Their tensors by our names and in our shapes, those that ``model`` has.

        Raises:
            ValueError: if tensors are missing, unknown or of another shape, or if one that follows from the model's
                sizes is another: then the weights belong to other sizes.
        """
        missing, unknown = self.misfits(state, model)
        if missing or unknown:
            words = [f"{word} {_some(names)}" for word, names in (("no", missing), ("unknown", unknown)) if names]
            raise ValueError(f"not the weights of this {type(model).__name__} as in {self.name}: {'; '.join(words)}")
        for name, value in self.derived(model).items():
            if (there := state.get(name)) is None:
                continue
            rounded = value.to(there.dtype).to(value.dtype)  # files may be of half precision
            if there.shape != value.shape or not torch.allclose(there.to(value), rounded):
                raise ValueError(
                    f"{name} of shape {tuple(there.shape)} is not the {tuple(value.shape)} that follows from the "
                    "model's sizes: build it for the image size and window of the weights, load, then resize it"
                )
        shapes = {name: tensor.shape for name, tensor in _weights(model).items()}
        sizes, ours = self.sizes(model), {name: state[name] for name in remembered(model) & state.keys()}
        for match in self.matches(shapes):
            known = {**sizes, **_lengths(match, shapes[match.ours[0]])}
            parts = [_reshape(state[name], match.pattern, known, name) for name in match.theirs]
            pieces = _cut(parts, [shapes[name] for name in match.ours], match.pattern)
            if pieces is None:
                given = ", ".join(f"{name} {tuple(state[name].shape)}" for name in match.theirs)
                wanted = ", ".join(f"{name} {tuple(shapes[name])}" for name in match.ours)
                raise ValueError(f"weights of other shapes than the model's: {given} for {wanted}")
            ours |= zip(match.ours, pieces, strict=True)
        return ours


def _weights(model: nn.Module, state: State | None = None) -> dict[str, Tensor]:
    """The state of a model, or tensors under its names, without what nobody else's models have."""
    everything, own = model.state_dict() if state is None else state, remembered(model)
    return {name: tensor for name, tensor in everything.items() if name not in own}


def _tuple(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


@cache
def _match(rows: tuple[Row, ...], name: str) -> Match | None:
    for ours, theirs, *pattern in rows:
        for one in _tuple(ours):
            if found := _regex(one).fullmatch(name):
                numbers = {key: int(value) for key, value in found.groupdict().items() if key != "leaf"}
                mine, other = (tuple(fill(n, numbers) + found["leaf"] for n in _tuple(side)) for side in (ours, theirs))
                return Match(mine, other, pattern[0] if pattern else None)
    return None


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    """``blocks.{i}.mlp`` as a regular expression that also fits what lies below it."""
    return re.compile(re.sub(r"\\\{(\w)\\\}", r"(?P<\1>\\d+)", re.escape(pattern)) + r"(?P<leaf>(\.\w+)*)")


def fill(name: str, numbers: Mapping[str, int]) -> str:
    """``block{i+1}`` with its numbers: an optional factor, a letter, and an optional difference."""
    return re.sub(r"\{(\d*)(\w)([+-]\d+)?\}", lambda m: str(int(m[1] or 1) * numbers[m[2]] + int(m[3] or 0)), name)


def _reshape(tensor: Tensor, pattern: str | None, sizes: Mapping[str, int], name: str = "a tensor") -> Tensor:
    if pattern is None:
        return tensor
    lengths = {axis: length for axis, length in sizes.items() if axis in re.findall(r"\w+", pattern)}
    try:
        return rearrange(tensor, pattern, **lengths)
    except EinopsError as error:
        start = pattern.split(" -> ")[0]
        raise ValueError(f"{name} of shape {tuple(tensor.shape)} is no {start!r} with {lengths}") from error


def _axes(pattern: str | None, otherwise: int) -> int:
    """How many axes our side of a pattern has."""
    return len(_AXES.findall(pattern.split(" -> ")[1])) if pattern else otherwise


def _cut(parts: list[Tensor], shapes: list[torch.Size], pattern: str | None) -> list[Tensor] | None:
    """Parts of one shape, joined on their first axis and cut into others; ``None`` where they do not make these."""
    if len(parts) == len(shapes) == 1:  # a count of batches has no axis to be joined on
        return parts if parts[0].shape == shapes[0] else None
    if not parts[0].ndim or any(part.shape != parts[0].shape for part in parts):
        return None
    whole, axes = torch.cat(parts), _axes(pattern, len(shapes[0]))
    wanted = shapes if len(shapes) == 1 else [_rows(shape, axes) for shape in shapes]
    if whole.shape != (sum(shape[0] for shape in wanted), *wanted[0][1:]) or len({s[1:] for s in wanted}) > 1:
        return None
    pieces = zip(whole.split([shape[0] for shape in wanted]), shapes, strict=True)
    return [piece.reshape(shape) for piece, shape in pieces]


def _rows(shape: torch.Size, axes: int) -> torch.Size:
    """A shape with its first axes made one, so that ``axes`` are left."""
    first = len(shape) - axes + 1
    return torch.Size((shape[:first].numel(), *shape[first:]))


def _lengths(match: Match, ours: torch.Size) -> dict[str, int]:
    """Lengths of the axes that stand alone on our side, where a tensor of ours is one of theirs."""
    if match.pattern is None or len(match.ours) + len(match.theirs) > 2:
        return {}
    axes = _AXES.findall(match.pattern.split(" -> ")[1])
    return {axis: length for axis, length in zip(axes, ours, strict=True) if axis.isidentifier()}


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
