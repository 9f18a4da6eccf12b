"""A model in the page: a trained Vision Transformer as a file of weights, and a pad to draw digits for it.

``export`` writes a model's parameters as one block of float32 numbers and a manifest that says where each stands;
``vit.js`` computes from the two what ``papers/vit.py`` computes. ``drawing_pad`` puts them on a page.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attention_notes.chapters.plots import gallery
from attention_notes.chapters.widgets import Live
from attention_notes.inspect import record_attention
from attention_notes.papers.vit import PatchEmbedding, VisionTransformer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEVELS = 16  # of grey in the scans, above none
_DIGITS = "0123456789abcdefg"


def export(model: VisionTransformer) -> tuple[bytes, dict[str, Any]]:
    """The parameters of a ViT in float32, little-endian, one after the other, and what is needed to run them.

    Returns:
        The bytes, and the manifest: the sizes of the model, the name, shape and offset in bytes of every parameter, and
        the length and the CRC-32 of the bytes.

    Raises:
        ValueError: if the model does not cut its images into plain patches, or has no head.
    """
    patches = model.patches
    if not isinstance(patches, PatchEmbedding) or not isinstance(model.head, nn.Linear):
        found = f"{type(patches).__name__} in front and {type(model.head).__name__} as its head"
        raise ValueError(f"a model to export cuts plain patches and ends in a linear head; this one has {found}")
    parameters, parts, offset = [], [], 0
    for name, value in model.state_dict().items():
        parts.append(value.detach().float().cpu().numpy().astype("<f4").tobytes())
        parameters.append({"name": name, "shape": list(value.shape), "offset": offset})
        offset += len(parts[-1])
    weights = b"".join(parts)
    sizes = {"image_size": patches.image_size, "patch": patches.patch, "channels": patches.channels}
    attention: Any = model.blocks[0].attention
    depth = {"depth": len(model.blocks), "heads": attention.heads, "extra": model.pooling.extra}
    check = {"eps": model.norm.eps, "bytes": len(weights), "crc32": zlib.crc32(weights)}
    return weights, {**sizes, **depth, **check, "parameters": parameters}


def drawing_pad(
    model: VisionTransformer, images: Float[Tensor, "k 1 y x"], labels: Int[Tensor, " k"], *, each: int = 2
) -> Live:
    """A pad to draw a digit on, which ``model`` reads in the reader's browser, and its attention as one draws.

    Args:
        model: a trained reader of the digits of ``data.digits``.
        images: digits that it has not been trained on, to be tried without drawing.
        labels: which digits they are.
        each: how many of each digit to take along, the first ones.

    Raises:
        ValueError: if there are fewer, or if the model cannot be exported.
    """
    places = [(labels == digit).nonzero().flatten().tolist() for digit in range(10)]
    if lacking := [digit for digit, found in enumerate(places) if len(found) < each]:
        raise ValueError(f"fewer than each={each} images of the digits {lacking}")
    chosen = [found[nth] for nth in range(each) for found in places]
    examples = [{"label": int(labels[at]), "pixels": levels(images[at])} for at in chosen]
    weights, manifest = export(model)
    alt = (
        "A pad on which one draws a digit, the pixels that the model is given, the probability of each of the ten "
        f"digits, and the attention in {manifest['depth']} layers of {manifest['heads']} heads. Where scripts are off, "
        f"a picture: the attention of the {'class token' if manifest['extra'] else 'first patch'} for a held-out 3."
    )
    data = {"manifest": manifest, "examples": examples, "levels": LEVELS}
    still = _still(model, images[chosen[3]][None])
    return Live("draw", data, alt=alt, still=still, files={"weights": weights})


def levels(image: Float[Tensor, "1 y x"]) -> str:
    """A scan as text, a letter for each pixel: 0 to 9 and a to g for its sixteen levels of grey above none.

    Raises:
        ValueError: if a pixel lies between two levels or beyond them.
    """
    counts = (image * LEVELS).flatten().tolist()
    if any(count != int(count) or not 0 <= count <= LEVELS for count in counts):
        raise ValueError(f"a scan has the values 0, 1/{LEVELS}, ..., 1 only")
    return "".join(_DIGITS[int(count)] for count in counts)


def _still(model: VisionTransformer, image: Float[Tensor, "1 ch y x"]) -> Axes:
    """One digit, and the first token's weights in every head of every layer."""
    with torch.no_grad(), record_attention(model) as maps:
        model(image)
    grid = model.patches.grid
    rows = {
        f"layer {i}": [image[0], *(head[0, model.pooling.extra :].unflatten(0, grid) for head in weights[0])]
        for i, weights in enumerate(maps.values(), start=1)
    }
    heads = len(rows["layer 1"]) - 1
    return gallery(rows, titles=["digit", *(f"head {i + 1}" for i in range(heads))], width=4.5)
