"""Live components: a figure that answers to the reader, with its data and its script in itself.

A component is a kind (``inspector``, ``softmax``, ...): a Python function that gathers the data and returns a
``Live``, and a script ``<kind>.js`` that draws it. Where scripts are off the still picture stands in its place, in a
text its words. The site takes the scripts from its own folder; a notebook carries them in the cell's output.

A script whose first lines say ``// Needs: pad.js, scan.js`` has these loaded before it, and ``<name>.css`` is the style
of any of them; ``live.js`` and ``live.css`` are everyone's.
"""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the build reads scripts only, and torch and matplotlib take long to import
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

LARGEST = 150_000  # bytes of data in one component: several of them on a page still load at once


class Live:
    """One live component.

    Args:
        kind: which one; ``<kind>.js`` beside this file draws it.
        data: what JSON can hold; tensors as ``pack`` packs them.
        alt: the text alternative: what the component shows, in words that hold on every machine.
        still: the picture that stands where scripts are off. It is closed, so that a notebook shows it once.
        files: what is too large for ``data`` and loaded on demand, by name: ``await Live.file(figure, name)``.

    Raises:
        ValueError: if there is no such kind, no text alternative, or more data than ``LARGEST``.
    """

    def __init__(
        self,
        kind: str,
        data: Mapping[str, Any],
        *,
        alt: str,
        still: Axes | Figure,
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        self.still, self.files = _png(still), dict(files or {})
        if kind not in kinds():
            raise ValueError(f"no live component {kind!r}: known are {', '.join(kinds())}")
        if not alt.strip():
            raise ValueError(f"the live component {kind!r} has no text alternative; say in alt= what it shows")
        self.kind, self.alt = kind, alt
        self.json = _safe(json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False))
        if (size := len(self.json.encode())) > LARGEST:
            raise ValueError(f"{size:,} bytes of data are more than {LARGEST:,}: choose fewer layers, heads or tokens")

    def figure(self) -> str:
        """The component as HTML, its script left out: data, and the still picture until the script replaces it."""
        alt = html.escape(self.alt, quote=True)
        files = "".join(
            f'<script type="application/octet-stream" data-file="{name}">{base64.b64encode(content).decode()}</script>'
            for name, content in self.files.items()
        )
        return (
            f'<figure class="live" data-live="{self.kind}"><script type="application/json">{self.json}</script>{files}'
            f'<img src="data:image/png;base64,{self.still}" alt="{alt}"></figure>'
        )

    def __repr__(self) -> str:
        return self.alt

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": self.alt, "text/html": self.figure() + source(self.kind)}


def pack(values: Tensor) -> dict[str, Any]:
    """A tensor in one byte a value, evenly spaced from its least to its largest.

    ``unpack`` undoes it here, and ``Live.unpack`` in the script.

    Raises:
        ValueError: if a value is not finite, or there are none.
    """
    import torch

    flat = values.detach().double().cpu()
    if not flat.numel() or not flat.isfinite().all():
        raise ValueError(f"cannot pack a tensor of shape {tuple(values.shape)} that is empty or holds inf or nan")
    least = flat.min().item()
    step = (flat.max().item() - least) / 255
    levels = ((flat - least) / step if step else flat * 0).round().to(torch.uint8)
    encoded = base64.b64encode(levels.numpy().tobytes()).decode()
    return {"shape": list(flat.shape), "least": least, "step": step, "bytes": encoded}


def unpack(packed: Mapping[str, Any]) -> Tensor:
    """What the script makes of ``pack``: every value to half a step."""
    import torch

    levels = torch.frombuffer(bytearray(base64.b64decode(packed["bytes"])), dtype=torch.uint8)
    return (packed["least"] + packed["step"] * levels.double()).reshape(packed["shape"])


def picture(colours: Tensor) -> str:
    """An image ``ch y x``, grey or in colours from 0 to 1, as the address that an ``<image>`` takes."""
    import torch
    from PIL import Image

    levels = (255 * colours.detach().float().cpu().clamp(0, 1)).round().to(torch.uint8).movedim(0, -1).numpy()
    buffer = io.BytesIO()
    Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels).save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@cache
def kinds() -> tuple[str, ...]:
    """The components that there are: the scripts that define one of their own name."""
    scripts = {name[:-3]: _read(name) for name in _names() if name.endswith(".js")}
    return tuple(sorted(kind for kind, text in scripts.items() if f'Live.define("{kind}"' in text))


@cache
def parts(kind: str) -> tuple[str, ...]:
    """The files of a kind, in the order in which they are loaded: styles first, then what its script needs, then it."""
    needs = re.search(r"^// Needs: (.*)$", _read(f"{kind}.js"), re.MULTILINE)
    scripts = ["live.js", *(needs[1].split(", ") if needs else ()), f"{kind}.js"]
    styles = [f"{script[:-3]}.css" for script in scripts]
    return (*(name for name in styles if name in _names()), *scripts)


@cache
def source(kind: str) -> str:
    """The styles and scripts of a kind, to be carried in a notebook's output."""
    style = "\n".join(_read(name) for name in parts(kind) if name.endswith(".css"))
    script = "\n".join(_read(name) for name in parts(kind) if name.endswith(".js")).replace("</script", "<\\/script")
    return f"<style data-live-source>\n{style}</style><script data-live-source>\n{script}</script>"


def _names() -> set[str]:
    return {file.name for file in resources.files(__name__).iterdir()}


def _read(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")


def _safe(text: str) -> str:
    """JSON that no HTML parser takes for a tag or a comment."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _png(still: Axes | Figure) -> str:
    """The picture in base64; its figure is closed."""
    import matplotlib.pyplot as plt

    root: Any = still.figure
    buffer = io.BytesIO()
    root.savefig(buffer, format="png", dpi=110, facecolor="none", metadata={"Software": None})
    plt.close(root)
    return base64.b64encode(buffer.getvalue()).decode()
