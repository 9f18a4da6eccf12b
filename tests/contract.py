"""What the suite over all models is given: small models, inputs of each kind, and how to run the two."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

BATCH = 3
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
compiles_all = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 10),
    reason="before 2.10, PyTorch's compiler does not trace every model whole: 2.7 to 2.9 leave out some",
)


@dataclass(frozen=True)
class Case:
    """How to build a small model of a family, and inputs for it."""

    build: Callable[[], nn.Module]
    inputs: Callable[..., tuple[Tensor, ...]]
    no_softmax: str = ""  # why there are no rows of attention to record
    no_bfloat16: str = ""  # why half the digits are not enough
    no_vision: str = ""  # why a model of images or clips is no ``VisionModel``
    no_onnx: str = ""  # what ONNX lacks
    no_traced_onnx: str = ""  # what the older exporter to ONNX lacks


def images(y: int = 28, x: int = 42) -> tuple[Tensor]:
    return (torch.randn(BATCH, 3, y, x, device=DEVICE),)


def sentences(m: int = 5, n: int = 3) -> tuple[Tensor, Tensor]:
    return torch.randint(1, 23, (BATCH, m), device=DEVICE), torch.randint(1, 23, (BATCH, n), device=DEVICE)


def captioned(y: int = 28, x: int = 42, n: int = 5) -> tuple[Tensor, Tensor]:
    return (*images(y, x), torch.randint(1, 23, (BATCH, n), device=DEVICE))


def texts(n: int = 11, m: int = 0) -> tuple[Tensor]:
    return (torch.randint(1, 23, (BATCH, n), device=DEVICE),)


def tiles(y: int = 1, x: int = 3) -> tuple[Tensor]:
    """Images of y x x tiles of 32 pixels: PVT v1 cuts its maps until a token has 32, and refuses other sides."""
    return (torch.randn(BATCH, 3, 32 * y, 32 * x, device=DEVICE),)


def clips(y: int = 28, x: int = 42) -> tuple[Tensor]:
    return (torch.randn(BATCH, 3, 8, y, x, device=DEVICE),)


PICTURES = (images, clips, tiles)


def cards(n: int = 11, m: int = 0) -> tuple[Tensor]:
    return (torch.randn(BATCH, n, 7, device=DEVICE),)


def embedded(n: int = 28, m: int = 0) -> tuple[Tensor]:
    return (torch.randn(BATCH, n, 30, device=DEVICE),)


# Another size of each kind of input, and what a model that refuses it has to name.
OTHER = {
    images: ((56, 70), ("56 x 70", "28 x 42")),
    clips: ((56, 70), ()),
    captioned: ((56, 70, 7), ()),
    tiles: ((2, 5), ()),
    sentences: ((8, 7), ()),
    texts: ((17,), ()),
    cards: ((17,), ()),
    embedded: ((35,), ("35", "4 x 7")),
}


def randomised(case: Case) -> nn.Module:
    """A model in evaluation mode whose parameters are all random, those that start at zero or one too."""
    model = case.build().eval().to(DEVICE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def run(model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """What the model answers; several answers, as of two heads in training, side by side."""
    out = model(*inputs)
    return out if isinstance(out, Tensor) else beside(out)


def beside(answers: Sequence[Tensor]) -> Tensor:
    """Several answers for each sample as one: vectors, and what has more axes as vectors."""
    return torch.cat([answer.flatten(1) for answer in answers], -1)


def refusal(model: nn.Module, inputs: tuple[Tensor, ...]) -> str:
    """The words with which the model refuses its inputs, none if it takes them."""
    try:
        run(model, inputs)
    except ValueError as error:
        return str(error)
    return ""


def changed(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The same inputs with another first sample."""
    other = tuple(x.clone() for x in inputs)
    for x in other:
        x[0] = x[0].roll(1, -1) if x.dtype == torch.int64 else torch.randn_like(x[0])
    return other


def more(case: Case, batch: int) -> tuple[Tensor, ...]:
    """Inputs of another batch, of other numbers."""
    drawn = [case.inputs() for _ in range(-(-batch // BATCH))]
    return tuple(torch.cat(parts)[:batch] for parts in zip(*drawn, strict=True))


def agrees_elsewhere(file: Path, case: Case, model: nn.Module) -> None:
    """What ``onnxruntime`` computes from a file is what the model does, at several batches."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for batch in (1, BATCH, 7):
        inputs = more(case, batch)
        given = {given.name: x.cpu().numpy() for given, x in zip(session.get_inputs(), inputs, strict=True)}
        answers, wanted = [torch.from_numpy(x) for x in session.run(None, given)], run(model, inputs).detach().cpu()
        found = answers[0] if len(answers) == 1 else beside(answers)
        assert found.shape == wanted.shape
        assert (found - wanted).norm() < 1e-5 * wanted.norm()
