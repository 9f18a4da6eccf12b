"""What every model of the package promises. A new model is one more line in MODELS, and gets all of this."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from attention_notes import papers
from attention_notes.chapters.data.scenes import scenes
from attention_notes.nn.attention import MultiHeadAttention
from attention_notes.nn.drop_path import DropPath
from attention_notes.papers.resnet import ResNet, basic, resnet
from attention_notes.chapters.segmentation import PyramidHead
from attention_notes.papers.cbam import cbam
from attention_notes.papers.deit import deit
from attention_notes.papers.dnl import DNL, Added, Coupled, Disentangled, DNLNet, Multiplied, Pairwise, Unary
from attention_notes.papers.layer_norm import BatchNorm, PowerNorm, RMSNorm, with_norm
from attention_notes.papers.non_local import C2D, Concatenation, DotProduct, Gaussian, NonLocal, insert
from attention_notes.papers.positional_encoding import (
    BucketBias,
    ConditionalPositions,
    Encoder,
    GridBias,
    LinearBias,
    RelativePositions,
    Rotary,
)
from attention_notes.papers.pvt import pvt
from attention_notes.papers.swin import swin
from attention_notes.papers.transformer import PreNorm, Sinusoids, transformer
from attention_notes.papers.vit import MeanPooling, vit
from attention_notes.papers.why_attention import Convolution, Reader
from attention_notes.inspect import record_attention

BATCH = 3
KEYS = {file.stem for file in Path(papers.__file__).parent.glob("*.py")} - {"__init__"}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class Case:
    """How to build a small model of a family, and inputs for it."""

    build: Callable[[], nn.Module]
    inputs: Callable[..., tuple[Tensor, ...]]
    no_softmax: str = ""  # why there are no rows of attention to record
    no_bfloat16: str = ""  # why half the digits are not enough


def images(y: int = 28, x: int = 42) -> tuple[Tensor]:
    return (torch.randn(BATCH, 3, y, x, device=DEVICE),)


def sentences(m: int = 11, n: int = 7) -> tuple[Tensor, Tensor]:
    return torch.randint(1, 23, (BATCH, m), device=DEVICE), torch.randint(1, 23, (BATCH, n), device=DEVICE)


def tiles(y: int = 1, x: int = 3) -> tuple[Tensor]:
    """Images of y x x tiles of 32 pixels: PVT v1 cuts its maps until a token has 32, and refuses other sides."""
    return (torch.randn(BATCH, 3, 32 * y, 32 * x, device=DEVICE),)


def clips(y: int = 28, x: int = 42) -> tuple[Tensor]:
    return (torch.randn(BATCH, 3, 8, y, x, device=DEVICE),)


def cards(n: int = 11, m: int = 0) -> tuple[Tensor]:
    return (torch.randn(BATCH, n, 7, device=DEVICE),)


def embedded(n: int = 28, m: int = 0) -> tuple[Tensor]:
    return (torch.randn(BATCH, n, 30, device=DEVICE),)


# Another size of each kind of input, and what a model that refuses it has to name.
OTHER = {
    images: ((56, 70), ("56 x 70", "28 x 42")),
    clips: ((56, 70), ()),
    tiles: ((2, 5), ()),
    sentences: ((17, 13), ()),
    cards: ((17,), ()),
    embedded: ((35,), ("35", "4 x 7")),
}
SMALL = {"layers": 2, "dim": 30, "heads": 3, "hidden": 44, "dropout": 0.1}
TINY = {"dim": 30, "depth": 2, "heads": 3, "hidden": 44, "patch": (7, 14), "num_classes": 5, "image_size": (28, 42)}
PLACED = {"layers": 2, "heads": 3, "hidden": 44, "dropout": 0.1}
# 14 x 6 patches: padded to 15 x 10, shifted by 2; then 7 x 3 in windows of 5 x 3
WINDOWS = {"dim": 24, "depths": (2, 2), "heads": (3, 3), "patch": (2, 7), "window": 5, "num_classes": 5}
WINDOWS |= {"image_size": (28, 42), "drop_path": 0.2}
PYRAMID = {"dims": (12, 18, 24, 30), "depths": (1, 1, 1, 1), "heads": (3, 3, 3, 3), "ratios": (3, 2, 2, 1)}
PYRAMID |= {"expansions": (2, 2, 3, 2), "num_classes": 5}


def reader() -> nn.Module:
    mixers = [MultiHeadAttention(30, heads=3), Convolution(30, kernel=3)]
    return Reader(mixers, embedding=nn.Linear(7, 30), dim=30, classes=5)


def placed(**options) -> Case:
    return Case(partial(Encoder, 30, **PLACED, **options), embedded)


def renormed(norm: Callable[..., nn.Module], **options) -> nn.Module:
    return with_norm(vit("Ti/16", **TINY, **options), norm)


def non_local(dims: int, **options) -> nn.Module:
    net = ResNet(basic, depths=(1, 2, 2, 1), width=6, num_classes=5)
    return insert(net, {1: (0, 1), 2: (0,)}, block=partial(NonLocal, dims=dims, subsample=2, **options))


def disentangled(attention: Callable[..., nn.Module]) -> nn.Module:
    backbone = ResNet(basic, depths=(1, 1), width=8, dilations=(1, 1), num_classes=None)
    return DNLNet(backbone, num_classes=5, dim=10, block=partial(DNL, attention=attention))


CUBIC = "cubic in its input and bounded by nothing, it loses up to 0.13, and so does the literal N x N form"
MODELS = {
    "why_attention": Case(reader, cards),
    "transformer": Case(partial(transformer, "base", vocabulary=23, **SMALL), sentences),
    "transformer pre-norm": Case(partial(transformer, "base", vocabulary=23, residual=PreNorm, **SMALL), sentences),
    "positional_encoding rotary": placed(core=Rotary),
    "positional_encoding shaw": placed(core=partial(RelativePositions, reach=5)),
    "positional_encoding t5": placed(core=partial(BucketBias, buckets=8, furthest=12)),
    "positional_encoding alibi": placed(core=LinearBias),
    "positional_encoding grid": placed(core=partial(GridBias, grid=(4, 7))),
    "positional_encoding conditional": Case(
        lambda: Encoder(30, positions=ConditionalPositions(30, columns=7), after=1, **PLACED), embedded
    ),
    "positional_encoding sinusoids": Case(lambda: Encoder(30, positions=Sinusoids(30), **PLACED), embedded),
    "layer_norm rms": Case(partial(renormed, RMSNorm), images),
    "layer_norm batch": Case(partial(renormed, BatchNorm), images),
    # its running statistic moves in every pass of training, as dropping does
    "layer_norm power": Case(partial(renormed, PowerNorm, dropout=0.1), images),
    "vit": Case(partial(vit, "Ti/16", **TINY), images),
    "vit pooled": Case(partial(vit, "Ti/16", pooling=MeanPooling, dropout=0.1, **TINY), images),
    "deit": Case(partial(deit, "Ti/16", drop_path=0.0, **TINY), images),
    "deit distilled": Case(partial(deit, "Ti/16 distilled", drop_path=0.3, **TINY), images),
    "swin": Case(partial(swin, "swin_t", **WINDOWS), images),
    "swin v2": Case(partial(swin, "swinv2_t", **WINDOWS), images),
    "pvt": Case(partial(pvt, "pvt_tiny", image_size=(32, 96), **PYRAMID), tiles),
    "pvt v2": Case(partial(pvt, "pvt_v2_b0", drop_path=0.5, **PYRAMID), images),
    "pvt v2 linear": Case(partial(pvt, "pvt_v2_b2_li", **PYRAMID), images),
    "non_local": Case(partial(non_local, 2), images),
    "non_local gaussian": Case(partial(non_local, 2, pairwise=Gaussian, batch_norm=False), images),
    "non_local dot product": Case(
        partial(non_local, 2, pairwise=DotProduct), images, no_softmax="scores divided by N", no_bfloat16=CUBIC
    ),
    "non_local concatenation": Case(
        partial(non_local, 2, pairwise=Concatenation), images, no_softmax="rectified scores divided by N"
    ),
    "non_local clips": Case(lambda: C2D(non_local(3)), clips),
    "cbam": Case(partial(cbam, "cbam_resnet18", width=16, num_classes=5), images, no_softmax="gates, not shares"),
    "dnl": Case(partial(disentangled, Disentangled), images),
    "dnl coupled": Case(partial(disentangled, Coupled), images),
    "dnl multiplied": Case(partial(disentangled, Multiplied), images),
    "dnl added": Case(partial(disentangled, Added), images),
    "dnl pairwise": Case(partial(disentangled, Pairwise), images),
    "dnl unary": Case(partial(disentangled, Unary), images),
}
# Papers without a model of their own, each with the reason.
NO_MODEL = {"self_attention": "an operation without parameters and the parts around it"}

every_model = pytest.mark.parametrize("case", MODELS.values(), ids=MODELS.keys())


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
    return out if isinstance(out, Tensor) else torch.cat([*out], -1)


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


def test_every_paper_is_held_to_the_contract_or_says_why_not():
    assert {name.split()[0] for name in MODELS} | NO_MODEL.keys() == KEYS


@every_model
def test_the_output_depends_on_the_input(case):
    model, inputs = randomised(case), case.inputs()
    assert (run(model, inputs)[0] - run(model, changed(inputs))[0]).abs().max() > 1e-3


@every_model
def test_samples_of_a_batch_do_not_mix(case):
    model = randomised(case).double()  # in single precision a sum in another order is nearly as far away
    inputs = tuple(x.double() if x.is_floating_point() else x for x in case.inputs())
    torch.testing.assert_close(run(model, inputs)[1:], run(model, changed(inputs))[1:], atol=1e-10, rtol=1e-10)
    alone = torch.cat([run(model, tuple(x[i : i + 1] for x in inputs)) for i in range(BATCH)])
    torch.testing.assert_close(run(model, inputs), alone, atol=1e-10, rtol=1e-10)


@every_model
def test_every_parameter_gets_a_gradient(case):
    model = randomised(case).train()
    for module in model.modules():
        if isinstance(module, DropPath):
            module.p = 0.0  # which could skip a branch for all samples
    run(model, case.inputs()).square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@every_model
def test_evaluation_is_deterministic(case):
    model, inputs = randomised(case), case.inputs()
    assert torch.equal(run(model, inputs), run(model, inputs))


@every_model
def test_training_drops_and_evaluation_does_not(case):
    model, inputs = randomised(case).train(), case.inputs()
    dropping = any(module.p > 0 for module in model.modules() if isinstance(module, _DropoutNd | DropPath))
    assert torch.equal(run(model, inputs), run(model, inputs)) is not dropping


@every_model
def test_bfloat16_agrees_to_its_precision(case):
    if case.no_bfloat16:
        pytest.skip(case.no_bfloat16)
    model, inputs = randomised(case), case.inputs()
    exact = run(model, inputs)
    halved = tuple(x.bfloat16() if x.is_floating_point() else x for x in inputs)
    rough = run(model.bfloat16(), halved).float()
    assert (rough - exact).norm() / exact.norm() < 0.03


@every_model
def test_the_state_travels_through_a_state_dict(case):
    model, inputs = randomised(case), case.inputs()
    other = case.build().eval().to(DEVICE)
    other.load_state_dict(model.state_dict())
    assert torch.equal(run(model, inputs), run(other, inputs))


@every_model
def test_weights_can_live_on_meta(case):
    with torch.device("meta"):
        model = case.build()
    assert run(model, tuple(x.to("meta") for x in case.inputs())).device.type == "meta"


@every_model
def test_attention_is_recorded_and_rows_sum_to_one(case):
    model, inputs = randomised(case), case.inputs()
    before = run(model, inputs)
    if case.no_softmax:
        with pytest.raises(RuntimeError, match="no softmax attention ran"), record_attention(model):
            run(model, inputs)
        return
    with record_attention(model) as maps:
        during = run(model, inputs)
    assert torch.equal(before, during)
    for name, weights in maps.items():
        assert weights.ndim == 4, name
        assert weights.shape[0] % BATCH == 0, name  # windows are folded into the batch
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))


@every_model
def test_another_size_of_input_works_or_is_refused_with_both_sizes(case, unchecked):
    model, inputs = randomised(case), case.inputs()
    size, words = OTHER[case.inputs]
    other = case.inputs(*size)
    if said := refusal(model, other):
        assert [word for word in words if word not in said] == []
        if not hasattr(model, "resize"):
            return
        model.resize(size)
    out = run(model, other)
    assert out.isfinite().all()
    assert case.inputs not in (images, clips, tiles) or out.shape[:2] == run(randomised(case), inputs).shape[:2]


FOUR = {"depths": (1, 1, 1, 1), "heads": (1, 1, 2, 2)}
PYRAMIDS = {
    "resnet": (partial(resnet, "resnet18", width=8), (8, 16, 32, 64)),
    "swin": (partial(swin, "swin_t", dim=8, window=4, image_size=(64, 96), **FOUR), (8, 16, 32, 64)),
    "swin v2": (partial(swin, "swinv2_t", dim=8, window=4, image_size=(64, 96), **FOUR), (8, 16, 32, 64)),
    "pvt": (partial(pvt, "pvt_tiny", dims=(8, 12, 16, 20), image_size=(64, 96), **FOUR), (8, 12, 16, 20)),
    "pvt v2": (partial(pvt, "pvt_v2_b0", dims=(8, 12, 16, 20), **FOUR), (8, 12, 16, 20)),
    "pvt v2 linear": (partial(pvt, "pvt_v2_b2_li", dims=(8, 12, 16, 20), **FOUR), (8, 12, 16, 20)),
}


@pytest.mark.parametrize(("build", "widths"), PYRAMIDS.values(), ids=PYRAMIDS.keys())
def test_maps_at_strides_4_to_32_of_an_image_that_is_not_square_feed_one_head(build, widths):
    scene, names = scenes(2, size=(64, 96), seed=0)
    model, head = build().eval(), PyramidHead(widths, dim=12, num_classes=11)
    maps = model.features(scene)
    assert [m.shape[1:] for m in maps] == [(w, 64 // s, 96 // s) for w, s in zip(widths, (4, 8, 16, 32), strict=True)]
    F.cross_entropy(head(maps, (64, 96)), names).backward()
    ended = ("head", "norm", "pooling")  # what comes after the last map belongs to the classifier
    silent = [n for n, p in model.named_parameters() if p.grad is None and not n.startswith(ended)]
    assert silent == []


def more(case: Case, batch: int) -> tuple[Tensor, ...]:
    """Inputs of another batch, of other numbers."""
    drawn = [case.inputs() for _ in range(-(-batch // BATCH))]
    return tuple(torch.cat(parts)[:batch] for parts in zip(*drawn, strict=True))


@every_model
def test_every_module_is_called_as_often_whatever_the_batch_and_gets_all_of_it(case):
    model, calls = randomised(case), []

    def seen(module: nn.Module, given: tuple, _: object) -> None:
        sizes = [len(x) for x in given if isinstance(x, Tensor) and x.ndim]
        calls.append((id(module), sizes))

    for module in model.modules():
        module.register_forward_hook(seen)
    found = []
    with torch.no_grad():
        for times in (1, 600):
            calls.clear()
            run(model, tuple(x.repeat(times, *(1,) * (x.ndim - 1)) for x in case.inputs()))
            found.append([*calls])
    assert [module for module, _ in found[0]] == [module for module, _ in found[1]]
    for (_, few), (_, many) in zip(*found, strict=True):
        assert [a * 600 for a in few] == many or few == many  # what does not depend on the inputs has no batch


@every_model
def test_a_trace_of_one_batch_runs_at_another(case, unchecked):
    model = randomised(case)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sizes that are asked for are constants of a trace
        traced = torch.jit.trace(model, case.inputs(), check_trace=False)
        other = more(case, 7)
        torch.testing.assert_close(run(traced, other), run(model, other), atol=1e-5, rtol=1e-5)


@every_model
def test_the_compiled_model_agrees(case, unchecked):
    """One graph, no breaks. The backend that only traces finds a break as well, in a second instead of thirty."""
    torch.compiler.reset()
    model, inputs = randomised(case), case.inputs()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(run(compiled, inputs), run(model, inputs), atol=1e-5, rtol=1e-5)


@every_model
def test_the_exported_model_agrees(case, unchecked):
    model, inputs = randomised(case), case.inputs()
    exported = torch.export.export(model, inputs).module()
    torch.testing.assert_close(run(exported, inputs), run(model, inputs), atol=1e-5, rtol=1e-5)
