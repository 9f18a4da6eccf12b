"""A trained model and a photograph, in one call, where there is a network; where there is none, words."""

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from attention_notes.chapters.plots.attention import attention_over
from attention_notes.images.classify import input_size, predict
from attention_notes.weights.checkpoints import find
from attention_notes.weights.hub import HubError, client

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def show_trained(
    factory: Any,
    variant: str,
    photograph: Float[Tensor, "3 y x"],
    *,
    at: tuple[int, int] | str | None = None,
    pretrained: bool | str = True,
    device: str | torch.device = "cpu",
) -> "Axes | None":
    """Fetch the official weights of a variant, print what it sees on a photograph, and draw where it looks.

    Args:
        factory: of a family, such as ``vit``.
        variant: name of the variant.
        photograph: colours from 0 to 1.
        at: who looks, as in ``plots.attention_over``.
        pretrained: which weights: True for the first that are listed, or a repository.
        device: where it runs.

    Returns:
        The drawing, or None where the weights cannot be had: then it says so, and what it would have shown.
    """
    client().utils.disable_progress_bars()
    checkpoint = find(factory.__name__, variant, pretrained)
    if checkpoint.input is None:
        raise ValueError(f"{checkpoint.repo} reads no pictures: choose a model of images")
    try:
        model = factory(variant, pretrained=pretrained).eval().to(device)
    except HubError:
        print(f"The weights of {checkpoint.repo} are not on this machine and cannot be fetched now.")
        print("With a network this cell names the five likeliest classes and draws where the model looks.")
        return None
    image = (photograph.movedim(0, -1) * 255).round().byte().cpu().numpy()
    if checkpoint.labels is not None:
        for found in predict(model, image):
            print(f"{found.probability:6.1%}  {found.name}")
    prepare: Any = checkpoint.input
    pixels = prepare(image, size=input_size(model))[0]
    return attention_over(model, pixels.to(device), at=at)
