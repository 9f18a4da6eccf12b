"""Models by name."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

Row = TypeVar("Row")


def lookup(variants: Mapping[str, Row], name: str) -> Row:
    """The row of a table of variants.

    Raises:
        ValueError: if there is none, with the names that there are, and the nearest of them.
    """
    if name in variants:
        return variants[name]
    near = get_close_matches(str(name), variants, n=3)
    meant = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise ValueError(f"unknown variant {name!r}; known: {', '.join(variants)}{meant}")


def given(**options: Any) -> dict[str, Any]:
    """Those options that are not None: parts are told what was asked for, and need not know the rest."""
    return {name: value for name, value in options.items() if value is not None}
