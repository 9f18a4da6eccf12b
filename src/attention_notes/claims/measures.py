"""What a check is given: a value, where it should lie, and whether it lies there.

Each function here compares one value, or several under one name, with a bound, and keeps the value: ``check`` prints it
and the recorder of ``make evidence`` collects it over seeds and instruction sets.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # facts are read by the build and the command line, which need no tensors
    from torch import Tensor

_UNITS = {"": 1, "%": 0.01, "k": 1e3, "M": 1e6, "G": 1e9, "B": 1e9}
# float32 and float64 as the book promises; half precisions at a few units in the last place
_TOLERANCE = {"torch.float64": 1e-10, "torch.float32": 1e-5, "torch.bfloat16": 3e-2, "torch.float16": 4e-3}
_NOISE = (
    1e-4  # a value that is bounded by less is rounding error, which differs between processors: only its bound shows
)


class ClaimError(ValueError):
    """A claim is unknown, ill-formed, run twice, or its check was given something that is not a measurement."""


@dataclass(frozen=True)
class Measure:
    """One measurement: ``name``, where it should lie, and whether it ``holds``.

    ``value`` is the number that the record keeps, of several the one nearest to leaving its bounds ``low`` and
    ``high`` (both excluded), or None where the measurement is not a number. ``words`` are for the reader;
    ``shown`` is the value in them, and ``bound`` the condition.
    """

    name: str
    holds: bool
    shown: str
    bound: str = ""
    value: int | float | None = None
    low: int | float = -math.inf
    high: int | float = math.inf

    def __bool__(self) -> bool:
        return self.holds

    def words(self, *, about: bool = False, record: str = "") -> str:
        """Name, value and bound in words; ``about`` marks the value as one that another processor rounds otherwise."""
        value = re.sub(r"(?<![\w.-])-?\d", lambda m: "≈" + m[0], self.shown) if about else self.shown
        aside = "; ".join(part for part in (self.bound, record) if part)
        return " ".join(part for part in (self.name, value, aside and f"({aside})") if part)


def above(name: str, value: Any, bound: int | float) -> Measure:
    """``value`` is larger than ``bound``; of several values, each is."""
    return _bounded(name, value, low=bound)


def below(name: str, value: Any, bound: int | float) -> Measure:
    """``value`` is smaller than ``bound``; of several values, each is."""
    return _bounded(name, value, high=bound)


def within(name: str, value: Any, low: int | float, high: int | float) -> Measure:
    """``value`` lies between two bounds, both excluded; of several values, each does."""
    return _bounded(name, value, low=low, high=high)


def found(name: str, value: Any) -> Measure:
    """``value`` as it came out, without a bound: for a training that settles nothing."""
    return _bounded(name, value)


def equal(name: str, value: Any, expected: Any) -> Measure:
    """``value`` is exactly ``expected``: counts, shapes, names, or a container of them.

    Raises:
        ClaimError: for tensors of floating point, which only ``close`` compares.
    """
    value, expected = _plain(name, value), _plain(name, expected)
    holds = bool(value == expected)
    return Measure(name, holds, _show(value), "" if holds else f"not {_show(expected)}")


def rounds(name: str, value: int | float, printed: str) -> Measure:
    """``value`` rounds to a number as it was printed, such as ``"28.09M"``; see ``rounds_to``."""
    holds = rounds_to(value, printed)
    return Measure(name, holds, f"{value:,}", f"{'rounds' if holds else 'does not round'} to {printed}")


def true(words: str, condition: Any) -> Measure:
    """A fact of structure that has no number: one tensor is another, a call was refused, a name is there.

    Raises:
        ClaimError: if ``condition`` is not a truth value: NaN, a text or an empty tensor is none.
    """
    return Measure(words, holds := truth(words, condition), "yes" if holds else "no")


def close(a: Tensor, b: Tensor, name: str = "difference") -> Measure:
    """Two tensors agree to the promise of the coarser dtype (1e-5 in float32, 1e-10 in float64).

    The difference is taken relative to the largest entry of ``b`` where that is above one.

    Raises:
        ClaimError: if the tensors are empty.
        ValueError: if the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"cannot compare shapes {tuple(a.shape)} and {tuple(b.shape)}")
    if not a.numel():
        raise ClaimError(f"{name}: two empty tensors of shape {tuple(a.shape)} agree in nothing")
    tolerance = max(_TOLERANCE.get(str(t.dtype), 0.0) for t in (a, b))
    a, b = a.detach().double().cpu(), b.detach().double().cpu()
    agrees = bool((a - b).abs().max() <= tolerance * b.abs().max().clamp(min=1))
    bound = f"{tolerance:g}".replace("e-0", "e-")
    return Measure(name, agrees, f"{'below' if agrees else 'above'} {bound}")


def rounds_to(ours: int | float, printed: str) -> bool:
    """Whether a measured number rounds to one as printed: ``86_567_656`` to ``"86M"``, ``17.56e9`` to ``"17.6G"``.

    Raises:
        ClaimError: if what was printed is not a number with an optional unit of k, M, G, B or %.
    """
    match = re.fullmatch(r"(-?[\d,]+(?:\.(\d+))?)\s*([kMGB%]?)", printed)
    if not match:
        raise ClaimError(f"cannot read the published value {printed!r}: expected a number and one of k, M, G, B, %")
    number, unit = float(match[1].replace(",", "")), _UNITS[match[3]]
    half = 0.5 * 10 ** -len(match[2] or "")
    return abs(ours / unit - number) <= half * (1 + 1e-9) if unit != 1 or match[2] else ours == number


def truth(name: str, condition: Any) -> bool:
    """A Python, NumPy or PyTorch truth value as a bool.

    Raises:
        ClaimError: for anything else.
    """
    if isinstance(condition, Measure | bool):
        return bool(condition)
    kind = str(getattr(condition, "dtype", ""))
    if kind in ("torch.bool", "bool") and getattr(condition, "shape", None) == ():
        return bool(condition)
    shape = f" of shape {tuple(condition.shape)}" if _is_tensor(condition) else f" {condition!r}"
    raise ClaimError(f"{name}: a truth value was expected, not {type(condition).__name__}{shape}")


def _bounded(name: str, value: Any, *, low: int | float = -math.inf, high: int | float = math.inf) -> Measure:
    values = _numbers(name, value)
    holds = all(low < v < high for v in values)  # NaN lies nowhere
    nearest = min(values, key=lambda v: -math.inf if math.isnan(v) else min(v - low, high - v))
    if math.isinf(low) and math.isinf(high) and len(values) > 1:
        raise ClaimError(f"{name}: {len(values)} values without a bound; record one, such as their mean")
    parts = [
        f"above {_number(low)}" if math.isfinite(low) else "",
        f"below {_number(high)}" if math.isfinite(high) else "",
    ]
    bound = " and ".join(part for part in parts if part)
    if holds and math.isinf(low) and 0 < high <= _NOISE:
        return Measure(name, holds, bound, "", nearest, low, high)
    shown = " to ".join(dict.fromkeys(_number(v) for v in (min(values), max(values))))
    return Measure(name, holds, shown, bound if holds else f"not {bound}", nearest, low, high)


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")  # where it was never imported there are no tensors
    return torch is not None and isinstance(value, torch.Tensor)


def _numbers(name: str, value: Any) -> list[int | float]:
    """One number or several as a flat list; ints stay ints."""
    if _is_tensor(value):
        value = value.detach().cpu().flatten().tolist() if value.ndim else value.item()
    elif hasattr(value, "tolist") and hasattr(value, "dtype"):
        value = value.tolist()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return [value]
    if isinstance(value, Mapping):
        value = [*value.values()]
    if isinstance(value, str | bytes | bool) or not isinstance(value, Iterable):
        raise ClaimError(f"{name}: a number was expected, not {type(value).__name__} {value!r}")
    if isinstance(value, Sized) and not len(value):
        raise ClaimError(f"{name}: nothing was measured; the values are empty")
    numbers = [number for part in value for number in _numbers(name, part)]
    if not numbers:
        raise ClaimError(f"{name}: nothing was measured; the values are empty")
    return numbers


def _plain(name: str, value: Any) -> Any:
    """Tensors, arrays, shapes and their containers as Python's own, so that ``==`` compares them entry by entry."""
    if _is_tensor(value) or (hasattr(value, "tolist") and hasattr(value, "dtype")):
        if _is_tensor(value) and value.is_floating_point():
            raise ClaimError(f"{name}: compare tensors of floating point with close(), not with equal()")
        return _plain(name, value.tolist())
    if isinstance(value, Mapping):
        return {key: _plain(name, part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(name, part) for part in value]
    return value


def _number(value: int | float) -> str:
    if not math.isfinite(value):
        return str(value)
    if isinstance(value, int) or (abs(value) >= 1000 and abs(value) < 1e15):
        return f"{round(value):,}"
    return re.sub(r"e([+-])0*", lambda m: f"e{m[1] if m[1] == '-' else ''}", f"{value:.3g}")


def _show(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, Mapping):
        words = ", ".join(f"{key} {_show(part)}" for key, part in value.items())
    elif isinstance(value, list):
        words = f"({', '.join(map(_show, value))})"
    elif isinstance(value, set | frozenset):
        words = ", ".join(sorted(map(_show, value))) or "none"
    else:
        words = str(value)
    return words if len(words) <= 80 else f"{words[:76]} ..."
