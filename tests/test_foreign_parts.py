"""Trunks with parts that are nobody's of the package: they work, they are resized, copied, stored, and left alone."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from attention_notes.claims import close
from attention_notes.nn.attention import attention_weights
from attention_notes.nn.block import PreNormBlock
from attention_notes.nn.mlp import MLP
from attention_notes.nn.protocols import Cut, OnGrid, Pooling, Resizable, Stem
from attention_notes.nn.windows import Windows, cut_windows, join_windows
from attention_notes.papers.cbam import CBAM, cbam
from attention_notes.papers.deit import deit
from attention_notes.papers.dnl import DNL
from attention_notes.papers.pvt import V1, V2, ClassToken, PyramidVisionTransformer, Stage, cut, overlapping, pvt
from attention_notes.papers.resnet import ResNet, bottleneck
from attention_notes.papers.swin import (
    Block,
    CosineWindowAttention,
    PatchMerging,
    PostNormMerging,
    PreNorm,
    ResPostNorm,
    Swin,
    WindowAttention,
    swin,
)
from attention_notes.papers.vit import Block as ViTBlock
from attention_notes.papers.vit import MeanPooling, PatchEmbedding, SelfAttention, VisionTransformer, vit

BATCH, CLASSES = 3, 5


class Foreign(nn.Module):
    """A part that remembers what it made of itself."""

    def born(self) -> None:
        self.first = {name: p.detach().clone() for name, p in self.named_parameters()}


class ConvStem(Foreign):
    """Tokens that overlap, of a fixed stride; neither patches, nor a size of images."""

    def __init__(self, dim: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.dim, self.grid = dim, grid
        self.convolution = nn.Conv2d(3, dim, 7, stride=7, padding=1)
        self.born()

    def resize(self, image_size: Any) -> None:
        self.grid = tuple(side // 7 for side in image_size)

    def forward(self, images: Tensor) -> Tensor:
        return self.convolution(images).flatten(2).mT


class RigidStem(nn.Conv2d):
    """A stem that cannot be told of another size."""

    dim, grid = 12, (4, 6)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).flatten(2).mT


class Weighted(Foreign):
    """A pooling with a linear map that has no bias: which tokens count, the token itself decides."""

    extra = 0

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, 1, bias=False)
        self.born()

    def prepend(self, patches: Tensor) -> Tensor:
        return patches

    def forward(self, z: Tensor) -> Tensor:
        z = z.flatten(1, -2)
        return (self.score(z).softmax(1) * z).sum(1)


class TwoInFront(Foreign):
    """A pooling with two tokens, of which the mean counts."""

    extra = 2

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.two = nn.Parameter(torch.randn(1, 2, dim))
        self.born()

    def prepend(self, patches: Tensor) -> Tensor:
        return torch.cat([self.two.expand(len(patches), -1, -1), patches], 1)

    def forward(self, z: Tensor) -> Tensor:
        return z[:, :2].mean(1)


class Norm(Foreign):
    """A norm with a weight of its own making, and no bias."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(dim) + 0.5)
        self.born()

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) * x.shape[-1] ** 0.5 * self.scale


class Bend(Foreign):
    """A non-linearity with a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.rand(1))
        self.born()

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, self.slope * x)


class Gated(Foreign):
    """A perceptron of another kind."""

    def __init__(self, dim: int, *, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.both, self.back = nn.Linear(dim, 2 * hidden), nn.Linear(hidden, dim, bias=False)
        self.born()

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.both(x).chunk(2, -1)
        return self.back(value * gate.sigmoid())


class Averaging(Foreign):
    """Instead of an attention: every token gets the mean of all, in a row or on a map, whatever it is told."""

    def __init__(self, dim: int, **told: Any) -> None:
        super().__init__()
        self.map, self.told = nn.Linear(dim, dim, bias=False), told
        self.born()

    def forward(self, x: Tensor) -> Tensor:
        return self.map(x.mean(tuple(range(1, x.ndim - 1)), keepdim=True)).expand_as(x)


class Whole(Foreign):
    """A block of its own make, with parts of the package inside, which are then its own affair."""

    def __init__(self, dim: int, *, heads: int, **told: Any) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(dim), SelfAttention(dim, heads=heads)
        self.mlp = MLP(dim, hidden=dim)
        self.born()

    def forward(self, x: Tensor) -> Tensor:
        z = x.flatten(1, -2)
        return (z + self.attention(self.norm(z)) + self.mlp(z)).view_as(x)


class WindowMean(Foreign):
    """An attention of windows without a bias: it holds the cut, and need not be told of anything."""

    def __init__(self, dim: int, *, heads: int, windows: Cut) -> None:
        super().__init__()
        self.windows, self.map = windows, nn.Linear(dim, dim)
        self.born()

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.windows.cut(x)
        return self.windows.join(self.map(tokens.mean(1, keepdim=True).expand_as(tokens)))


class Placed(Foreign):
    """A part with a number for each place of its map, that wants to be told of another map."""

    def __init__(self, dim: int, *, heads: int, windows: Cut) -> None:
        super().__init__()
        self.grid = windows.grid
        self.map, self.places = nn.Linear(dim, dim), nn.Parameter(torch.randn(*windows.grid, 1))
        self.born()

    def regrid(self, grid: tuple[int, int], *, window: tuple[int, int]) -> None:
        self.grid, self.window = grid, window
        self.places = nn.Parameter(self.places.new_ones(*grid, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.map(x * self.places)


class Merging(Foreign):
    """Half the map and twice the width by a convolution."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(dim, 2 * dim, 3, stride=2, padding=1)
        self.born()

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(x.movedim(-1, 1)).movedim(1, -1)


class Scaled(Foreign):
    """What surrounds a branch: its sum is scaled."""

    def __init__(self, dim: int, *, drop_path: float) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.rand(dim) + 0.1)
        self.born()

    def forward(self, x: Tensor, branch: nn.Module) -> Tensor:
        return x + self.alpha * branch(x)


class Halo:
    """Queries in windows side by side; keys are those of windows larger by ``halo`` on each side (HaloNet).

    Not even a module: what it needs it computes where the map is.
    """

    halo = 1

    def __init__(self, grid: tuple[int, int], *, window: tuple[int, int], shifted: bool) -> None:
        self.regrid(grid, window=window)

    def regrid(self, grid: tuple[int, int], *, window: tuple[int, int]) -> None:
        self.grid = grid
        self.window = (min(grid[0], window[0]), min(grid[1], window[1]))
        self.keys = (self.window[0] + 2 * self.halo, self.window[1] + 2 * self.halo)

    def fill(self) -> list[int]:
        return [-side % w for side, w in zip(self.grid, self.window, strict=True)]

    def cut(self, x: Tensor) -> Tensor:
        down, right = self.fill()
        return cut_windows(F.pad(x, (0, 0, 0, right, 0, down)), self.window)

    def cut_keys(self, x: Tensor, queries: Tensor) -> Tensor:
        (down, right), h = self.fill(), self.halo
        padded = F.pad(x, (0, 0, h, right + h, h, down + h))
        cuts = padded.unfold(1, self.keys[0], self.window[0]).unfold(2, self.keys[1], self.window[1])
        return rearrange(cuts, "b sy sx c ky kx -> (b sy sx) (ky kx) c")

    def join(self, windows: Tensor) -> Tensor:
        whole = [side + more for side, more in zip(self.grid, self.fill(), strict=True)]
        return join_windows(windows, self.window, grid=tuple(whole))[:, : self.grid[0], : self.grid[1]]

    def scores(self, bias: Tensor, *, images: int) -> Tensor:
        there = self.cut_keys(bias.new_ones(1, *self.grid, 1), bias)[..., 0] > 0
        hidden = torch.zeros_like(there, dtype=bias.dtype).masked_fill(~there, float("-inf"))
        return (bias + hidden[:, None, None]).repeat(images, 1, 1, 1)


class Dilated(nn.Module):
    """Windows of tokens that lie apart, so that each spans the whole map."""

    def __init__(self, grid: tuple[int, int], *, window: tuple[int, int], shifted: bool) -> None:
        super().__init__()
        self.regrid(grid, window=window)

    def regrid(self, grid: tuple[int, int], *, window: tuple[int, int]) -> None:
        self.grid = grid
        self.window = self.keys = tuple(
            max(w for w in range(1, min(s, a) + 1) if s % w == 0) for s, a in zip(grid, window, strict=True)
        )

    def cut(self, x: Tensor) -> Tensor:
        return rearrange(x, "b (wy dy) (wx dx) c -> (b dy dx) (wy wx) c", wy=self.window[0], wx=self.window[1])

    def cut_keys(self, x: Tensor, queries: Tensor) -> Tensor:
        return queries

    def join(self, windows: Tensor) -> Tensor:
        (gy, gx), (wy, wx) = self.grid, self.window
        pattern = "(b dy dx) (wy wx) c -> b (wy dy) (wx dx) c"
        return rearrange(windows, pattern, wy=wy, wx=wx, dy=gy // wy, dx=gx // wx)

    def scores(self, bias: Tensor, *, images: int) -> Tensor:
        return bias[None]


def whole(grid: tuple[int, int], *, window: tuple[int, int], shifted: bool) -> Windows:
    """One window for the whole map in every second block, the usual ones in the others."""
    return Windows(grid, window=grid if shifted else window, shifted=False)


@dataclass(frozen=True)
class Case:
    """How to build a small trunk with foreign parts for images of ``image``; which of its parameters follow a size."""

    build: Callable[[], nn.Module]
    follows: tuple[str, ...] = ()
    resized: tuple[int, int] | None = (42, 56)
    image: tuple[int, int] = (28, 42)


FLAT = {"depth": 2, "heads": 3, "hidden": 20, "num_classes": CLASSES}
PATCHED = {**FLAT, "dim": 12, "patch": (7, 7), "image_size": (28, 42)}
MAPS = {"dim": 12, "depths": (2, 2), "heads": (3, 3), "patch": (7, 7), "window": (2, 3), "image_size": (28, 42)}
MAPS |= {"num_classes": CLASSES}
ONE_CUT = {**MAPS, "window": (2, 2)}
PYRAMID = {"dims": (12, 18, 24, 30), "depths": (1, 2, 1, 1), "heads": (3, 3, 3, 3), "ratios": (3, 2, 1, 1)}
PYRAMID |= {"expansions": (2, 2, 3, 2), "num_classes": CLASSES}
GATED = {"depths": (1, 1), "dilations": (1, 1), "width": 16, "num_classes": CLASSES}
NET = {"depths": (1, 2), "dilations": (1, 1), "width": 6, "num_classes": CLASSES}


def stemmed(kind: Callable[..., nn.Module], **options: Any) -> nn.Module:
    return kind(ConvStem(12, (4, 6)), num_classes=CLASSES, **options)


def group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(2, channels)


class Spatial(Foreign):
    """In the place of a bottleneck's 3 x 3: a mean of neighbours, and a map with a start of its own."""

    def __init__(self, width: int, *, stride: int, dilation: int) -> None:
        super().__init__()
        self.pool, self.map = nn.AvgPool2d(3, stride, 1), nn.Conv2d(width, width, 1)
        self.born()

    def forward(self, x: Tensor) -> Tensor:
        return self.map(self.pool(x))


class End(Foreign):
    """At the end of a branch: a convolution for each channel, with a start of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.each = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.born()

    def forward(self, x: Tensor) -> Tensor:
        return self.each(x)


class Gate(Foreign):
    """A gate for each place, from a convolution with a start of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Conv2d(1, 1, 3, padding=1)
        self.born()

    def forward(self, x: Tensor) -> Tensor:
        return self.look(x.mean(1, keepdim=True)).sigmoid()


class Residual(Foreign):
    """A residual block of its own make."""

    def __init__(self, channels: int, width: int, *, stride: int, dilation: int, branch: Any) -> None:
        super().__init__()
        self.width = width
        self.only = nn.Conv2d(channels, width, 3, stride=stride, padding=1)
        self.born()

    def forward(self, x: Tensor) -> Tensor:
        return self.only(x).relu()


class Patches(Foreign):
    """A pyramid's patches: without a norm, in the middle of a larger window."""

    def __init__(self, channels: int, *, dim: int, stride: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, dim, stride + 2, stride=stride, padding=1)
        self.born()

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(x).movedim(1, -1)


def any_stages() -> nn.Module:
    """Two stages whose blocks take turns, in windows and over the whole map, as in Twins; and a convolution between."""

    def turns(dim: int) -> list[nn.Module]:
        cut_in = Windows((4, 6) if dim == 12 else (2, 3), window=(2, 3), shifted=False)
        inside, between = WindowMean(dim, heads=3, windows=cut_in), nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        return [PreNormBlock(dim, attention=inside, mlp=Gated(dim, hidden=8)), OnMaps(between), Whole(dim, heads=3)]

    first = Stage(Patches(3, dim=12, stride=7), positions=nn.Identity(), blocks=turns(12), norm=Norm(12))
    second = Stage(Patches(12, dim=18, stride=2), positions=nn.Identity(), blocks=turns(18), norm=nn.Identity())
    return PyramidVisionTransformer([first, second], pooling=Weighted(18), dim=18, num_classes=CLASSES)


class OnMaps(Foreign):
    """A convolution of tokens on a map, added to them."""

    def __init__(self, convolution: nn.Module) -> None:
        super().__init__()
        self.convolution = convolution
        self.born()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.convolution(x.movedim(-1, 1)).movedim(1, -1)


def designed(base: Any = V2, **parts: Any) -> Callable[[], nn.Module]:
    return partial(pvt, "pvt_v2_b0", design=replace(base, **parts), image_size=(32, 64), **PYRAMID)


ROWS = ("positions",)
TABLES = ("bias.table",)
LATER = {"layer_scale": 0.1, "registers": 2, "pre_norm": True, "qkv_bias": False}
CASES = {
    "vit stem": Case(partial(stemmed, VisionTransformer, depth=2, heads=3, hidden=20), ROWS),
    "vit pooling": Case(partial(vit, "Ti/16", pooling=Weighted, **PATCHED), ROWS),
    "vit two tokens": Case(partial(vit, "Ti/16", pooling=TwoInFront, **PATCHED, **LATER), ROWS),
    "vit norm and activation": Case(partial(vit, "Ti/16", norm=Norm, activation=Bend, pre_norm=True, **PATCHED), ROWS),
    "vit attention": Case(partial(vit, "Ti/16", attention=Averaging, qkv_bias=False, **PATCHED), ROWS),
    "vit mlp": Case(partial(vit, "Ti/16", mlp=Gated, layer_scale=0.1, **PATCHED), ROWS),
    "vit block": Case(partial(vit, "Ti/16", block=Whole, registers=2, **PATCHED), ROWS),
    "vit later options": Case(partial(vit, "Ti/16", **PATCHED, **LATER), ROWS),
    "deit block": Case(partial(deit, "Ti/16", block=Whole, **PATCHED), ROWS),
    "deit pooling": Case(partial(deit, "Ti/16", pooling=Weighted, **PATCHED), ROWS),
    "deit distilled": Case(partial(deit, "Ti/16 distilled", mlp=Gated, drop_path=0.0, **LATER, **PATCHED), ROWS),
    "swin stem": Case(partial(stemmed, Swin, depths=(2, 2), heads=(3, 3), window=(2, 3))),
    "swin attention": Case(partial(swin, "swin_t", attention=WindowMean, **MAPS)),
    "swin attention that is told": Case(partial(swin, "swin_t", attention=Placed, **MAPS), ("places",)),
    "swin block": Case(partial(swin, "swin_t", block=Whole, **MAPS)),
    "swin merging": Case(partial(swin, "swin_t", merging=Merging, **MAPS)),
    "swin residual and mlp": Case(partial(swin, "swinv2_t", block=partial(Block, residual=Scaled, mlp=Gated), **MAPS)),
    "swin norm and activation": Case(partial(swin, "swin_t", norm=Norm, activation=Bend, **MAPS)),
    "swin v2 norm": Case(partial(swin, "swinv2_t", norm=Norm, **MAPS)),
    "swin halo": Case(partial(swin, "swin_t", windows=Halo, **MAPS)),
    "swin v2 halo": Case(partial(swin, "swinv2_t", windows=Halo, **MAPS)),
    "swin dilated": Case(partial(swin, "swin_t", windows=Dilated, **MAPS), TABLES),
    "swin global": Case(partial(swin, "swin_t", windows=whole, **ONE_CUT), TABLES),
    "pvt attention": Case(designed(attention=Averaging), (), None, (32, 64)),
    "pvt block": Case(designed(block=Whole), (), None, (32, 64)),
    "pvt block and class token": Case(designed(V1, block=Whole), (), None, (32, 64)),
    "pvt patches": Case(designed(patches=Patches, mlp=Gated), (), None, (32, 64)),
    "pvt norms": Case(
        designed(patches=partial(overlapping, norm=Norm), norm=Norm, block_norm=Norm), (), None, (32, 64)
    ),
    "pvt class token": Case(
        designed(V1, patches=partial(cut, norm=Norm), pooling=partial(ClassToken, norm=Norm)), (), None, (32, 64)
    ),
    "pvt pooling": Case(designed(pooling=Weighted), (), None, (32, 64)),
    "resnet spatial": Case(partial(ResNet, partial(bottleneck, spatial=Spatial), **NET), (), None),
    "resnet end": Case(partial(ResNet, bottleneck, branch=End, **NET), (), None),
    "resnet norm and activation": Case(partial(ResNet, bottleneck, norm=group_norm, activation=Bend, **NET), (), None),
    "resnet block": Case(partial(ResNet, Residual, **NET), (), None),
    "cbam gate": Case(partial(cbam, "cbam_resnet18", block=partial(CBAM, spatial=Gate), **GATED), (), None),
    "pyramid of any stages": Case(lambda: any_stages(), (), None),
    "dnl attention": Case(lambda: nn.Sequential(nn.Conv2d(3, 6, 1), DNL(6, attention=Shares)), (), None),
}
OF_ONE_SIZE = {name: case for name, case in CASES.items() if case.resized}
CUTS = ("swin halo", "swin v2 halo", "swin dilated", "swin global")  # no modules, or such without parameters


def each(cases: dict[str, Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases.values(), ids=cases.keys())


every_case = each(CASES)


class Shares(Foreign):
    """What gathers the values of a non-local block, with a map of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.score = nn.Linear(channels, 1)
        self.born()

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        return (self.score(x).softmax(1) * v).sum(1, keepdim=True)


def images(case: Case, size: tuple[int, int] | None = None, **options: Any) -> Tensor:
    return torch.randn(BATCH, 3, *(size or case.image), **options)


def randomised(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


@every_case
def test_every_parameter_gets_a_gradient(case):
    model = randomised(case.build()).train()
    without = [name for name, _ in model.named_parameters()]
    for _ in range(20):  # stochastic depth leaves a branch without a gradient if it drops it for every image
        model(images(case)).square().sum().backward()
        without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        if not without:
            break
    assert without == []


@each({name: case for name, case in CASES.items() if name not in (*CUTS, "vit later options")})
def test_a_foreign_part_keeps_what_it_made_of_itself(case):
    found = [part for part in case.build().modules() if isinstance(part, Foreign) and part.first]
    assert found
    for part in found:
        for name, parameter in part.named_parameters():
            assert torch.equal(parameter, part.first[name]), f"{type(part).__name__}.{name}"


@each(OF_ONE_SIZE)
def test_another_size_changes_what_follows_from_it_and_nothing_else(case):
    model = randomised(case.build())
    names = [name for name, _ in model.named_parameters()]
    before = dict(model.named_parameters())
    kinds = {name: torch.bfloat16 if i % 2 else torch.float64 for i, name in enumerate(names)}
    for name, parameter in before.items():
        parameter.data = parameter.data.to(kinds[name])
        parameter.requires_grad_(len(name) % 2 == 0)
    frozen = {name: p.requires_grad for name, p in before.items()}
    assert model.resize(case.resized) is model
    for name, parameter in model.named_parameters():
        assert parameter.dtype == kinds[name], name
        if not name.endswith(case.follows or ("nothing",)):
            assert parameter is before[name], name
        elif not isinstance(model.get_submodule(name.rpartition(".")[0]), Foreign):
            assert parameter.requires_grad == frozen[name], name
    out = model.float()(images(case, case.resized))
    assert out.shape == (BATCH, CLASSES)
    assert out.isfinite().all()


@each({name: case for name, case in OF_ONE_SIZE.items() if not case.follows})
def test_there_and_back_a_size_computes_the_same(case):
    model, x = randomised(case.build()), images(case)
    before = model(x)
    model.resize(case.resized)
    assert torch.equal(model.resize(case.image)(x), before)


@every_case
def test_copies_and_stored_states_compute_the_same(case):
    model, x = randomised(case.build()), images(case)
    other = case.build().eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x))
    copy = deepcopy(model)
    assert torch.equal(copy(x), model(x))
    for parameter in copy.parameters():
        parameter.data.zero_()
    assert torch.equal(other(x), model(x))


@every_case
def test_a_model_from_meta_computes_the_same_once_it_has_memory_and_weights(case):
    model, x = randomised(case.build()), images(case)
    with torch.device("meta"):
        empty = case.build().eval()
    for kind in (torch.float32, torch.float64):
        full = deepcopy(empty).to(kind).to_empty(device="cpu")
        full.load_state_dict(model.state_dict())
        assert close(full.float()(x), model(x))


@every_case
def test_bfloat16_agrees_to_its_precision(case):
    model, x = randomised(case.build()), images(case)
    with torch.no_grad():
        exact = model(x)
        rough = model.bfloat16()(x.bfloat16())
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).norm() < 0.05 * exact.norm()


def near(grid: tuple[int, int], reach: Callable[[tuple[int, int], tuple[int, int]], bool]) -> Tensor:
    """Which token of a map may look at which, row by row."""
    places = [(y, x) for y in range(grid[0]) for x in range(grid[1])]
    return torch.tensor([[reach(a, b) for b in places] for a in places])


def literally(part: WindowAttention | CosineWindowAttention, x: Tensor, may: Tensor, apart: int = 1) -> Tensor:
    """The attention of a whole map with a mask of pairs, and a bias for each offset, counted in steps of ``apart``."""
    grid, tokens = x.shape[1:3], x.flatten(1, 2)
    y, u = (axis.flatten() for axis in torch.meshgrid(*(torch.arange(g) for g in grid), indexing="ij"))
    cosine = isinstance(part, CosineWindowAttention)
    bias = torch.cat([part.query_bias, 0 * part.query_bias, part.value_bias]) if cosine else part.qkv.bias
    q, k, v = rearrange(F.linear(tokens, part.qkv.weight, bias), "b n (qkv h d) -> qkv b h n d", qkv=3, h=part.heads)
    if cosine:
        q, k = F.normalize(q, dim=-1) * part.logit_scale.exp(), F.normalize(k, dim=-1)
        table = 16 * part.bias.network(part.bias.coordinates).sigmoid().movedim(-1, 0)
    else:
        table = part.bias.table
    (wy, wx), (ky, kx) = part.windows.window, part.windows.keys
    down = (y[:, None] - y).div(apart, rounding_mode="floor") + ky - 1 - (ky - wy) // 2
    right = (u[:, None] - u).div(apart, rounding_mode="floor") + kx - 1 - (kx - wx) // 2
    inside = table[:, down.clamp(0, table.shape[1] - 1), right.clamp(0, table.shape[2] - 1)]
    scores = inside.masked_fill(~may, float("-inf"))
    mixed = attention_weights(q, k, mask=scores, scale=1.0 if cosine else None) @ v
    return part.output(rearrange(mixed, "b h n d -> b n (h d)")).unflatten(1, grid)


KINDS = pytest.mark.parametrize("kind", [WindowAttention, CosineWindowAttention])


@KINDS
@pytest.mark.parametrize("grid", [(4, 9), (5, 7)], ids=str)
def test_a_halo_lets_a_window_look_at_its_surroundings(kind, grid):
    wy, wx = 2, 3
    part = randomised(kind(12, heads=3, windows=Halo(grid, window=(wy, wx), shifted=False)))
    x = torch.randn(2, *grid, 12)

    def may(a: tuple[int, int], b: tuple[int, int]) -> bool:
        return all(a_ // w * w - 1 <= b_ <= a_ // w * w + w for a_, b_, w in zip(a, b, (wy, wx), strict=True))

    assert close(part(x), literally(part, x, near(grid, may)))


@KINDS
def test_dilated_windows_join_tokens_that_lie_apart(kind):
    grid = (6, 6)
    part = randomised(kind(12, heads=3, windows=Dilated(grid, window=(3, 3), shifted=False)))
    x = torch.randn(2, *grid, 12)

    def may(a: tuple[int, int], b: tuple[int, int]) -> bool:
        return all((a_ - b_) % 2 == 0 for a_, b_ in zip(a, b, strict=True))

    assert close(part(x), literally(part, x, near(grid, may), apart=2))


@KINDS
def test_a_global_window_is_attention_over_the_whole_map(kind):
    part = randomised(kind(12, heads=3, windows=whole((4, 5), window=(2, 3), shifted=True)))
    x = torch.randn(2, 4, 5, 12)
    assert close(part(x), literally(part, x, near((4, 5), lambda a, b: True)))


def test_what_is_brought_has_what_the_protocols_name():
    grid = {"grid": (4, 6), "window": (2, 3), "shifted": False}
    cuts = [Halo(**grid), Dilated(**grid), Windows(**grid)]
    assert all(isinstance(each, Cut) for each in cuts)
    assert all(isinstance(each, Pooling) for each in (Weighted(4), TwoInFront(4), MeanPooling(4), ClassToken(4)))
    stems = [ConvStem(4, (2, 3)), PatchEmbedding(4, image_size=6, patch=2)]
    assert all(isinstance(each, Stem) and isinstance(each, Resizable) for each in stems)
    assert isinstance(Placed(4, heads=1, windows=cuts[2]), OnGrid)
    assert not isinstance(RigidStem(3, 12, 7, stride=7), Resizable)


@pytest.mark.parametrize(
    "build",
    [
        partial(VisionTransformer, depth=1, heads=3, hidden=8, num_classes=CLASSES),
        partial(Swin, depths=(1,), heads=(3,), window=2, num_classes=CLASSES),
    ],
)
def test_a_stem_of_one_size_works_and_says_that_it_is_of_one_size(build, unchecked):
    model = build(RigidStem(3, 12, 7, stride=7))
    assert model(torch.randn(2, 3, 28, 42)).shape == (2, CLASSES)
    with pytest.raises(TypeError, match=r"RigidStem has no resize\(image_size\)"):
        model.resize((42, 56))
    if isinstance(model, Swin):
        with pytest.raises(ValueError, match="the stem made 35 tokens, but its grid has 4 x 6"):
            model(torch.randn(2, 3, 35, 49))


def test_a_block_is_told_what_was_asked_for_and_no_more(unchecked):
    told = []

    def block(dim: int, **options: Any) -> nn.Module:
        told.append(options)
        return nn.Identity()

    vit("Ti/16", block=block, drop_path=0.3, **PATCHED)
    assert [each.pop("drop_path") for each in told] == [0.0, 0.3]
    assert told == [{"heads": 3, "hidden": 20, "dropout": 0.0}] * 2
    told.clear()
    vit("Ti/16", block=block, norm=Norm, talking=True, **PATCHED)
    assert told[0] == {"heads": 3, "hidden": 20, "dropout": 0.0, "drop_path": 0.0, "norm": Norm, "talking": True}
    with pytest.raises(TypeError, match="talking"):
        vit("Ti/16", talking=True, **PATCHED)
    with pytest.raises(TypeError, match="layer_scale"):
        vit("Ti/16", block=partial(Scaled, drop_path=0.0), layer_scale=0.1, **PATCHED)


def test_an_attention_is_told_that_there_are_no_biases_only_where_there_are_none():
    plain, bare = (vit("Ti/16", attention=Averaging, qkv_bias=bias, **PATCHED) for bias in (True, False))
    assert plain.blocks[0].attention.told == {"heads": 3}
    assert bare.blocks[0].attention.told == {"heads": 3, "qkv_bias": False}
    assert vit("Ti/16", qkv_bias=False, **PATCHED).blocks[1].attention.qkv.bias is None


def test_foreign_norms_are_everywhere():
    for model in (
        vit("Ti/16", norm=Norm, pre_norm=True, **PATCHED),
        swin("swin_t", norm=Norm, **MAPS),
        swin("swinv2_t", norm=Norm, **MAPS),
        designed(V1, patches=partial(cut, norm=Norm), norm=Norm, block_norm=Norm, pooling=Weighted, reduction=Few)(),
    ):
        assert not any(isinstance(part, nn.LayerNorm) for part in model.modules())


class Few(Foreign):
    """A reduction to a single token."""

    def __init__(self, dim: int, *, ratio: int) -> None:
        super().__init__()
        self.born()

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((1, 2))[:, None]


def test_registers_are_looked_at_but_not_read_and_have_no_position():
    model = randomised(vit("Ti/16", registers=2, pooling=MeanPooling, **PATCHED))
    x = images(CASES["vit pooling"])
    tokens = model.tokens(x)
    assert model.positions.shape == (1, 24, 12)
    assert tokens.shape == (BATCH, 26, 12)
    assert close(model(x), model.head(tokens[:, 2:].mean(1)))
    before = model(x)
    nn.init.normal_(model.registers, std=3.0)
    assert not close(model(x), before)


def test_registers_stand_behind_the_class_token():
    model = randomised(vit("Ti/16", registers=2, depth=0, **{k: v for k, v in PATCHED.items() if k != "depth"}))
    tokens = model.tokens(images(CASES["vit pooling"]))
    assert close(tokens[0, 0], model.norm(model.pooling.token[0, 0] + model.positions[0, 0]))
    assert close(tokens[0, 1:3], model.norm(model.registers[0]))


def test_layer_scale_starts_small_and_scales_both_branches():
    block, plain = (ViTBlock(12, heads=3, hidden=20, layer_scale=scale) for scale in (1e-5, None))
    plain.load_state_dict({n: t for n, t in block.state_dict().items() if "scale" not in n})
    z = torch.randn(2, 7, 12)
    assert block.attention_scale.gamma.tolist() == block.mlp_scale.gamma.tolist() == pytest.approx([1e-5] * 12)
    assert (block(z) - z).abs().max() < 1e-3
    for scale in (block.attention_scale, block.mlp_scale):
        nn.init.ones_(scale.gamma)
    assert close(block(z), plain(z))


def test_what_is_not_asked_for_leaves_nothing_behind():
    assert not [n for n in vit("Ti/16", **PATCHED).state_dict() if any(w in n for w in ("regist", "scale", "pre_norm"))]


@pytest.mark.parametrize(("residual", "silent"), [(PreNorm, False), (ResPostNorm, True)])
def test_only_its_own_norm_starts_at_zero(residual, silent):
    assert bool(residual(12, drop_path=0.0).norm.weight.any()) is not silent
    assert residual(12, drop_path=0.0, norm=Norm).norm.scale.all()


@pytest.mark.parametrize("merging", [PatchMerging, PostNormMerging])
def test_mergings_take_a_norm(merging):
    assert merging(6, norm=Norm)(torch.randn(2, 5, 4, 6)).shape == (2, 3, 2, 12)


def test_a_part_that_is_told_of_a_map_gets_its_own_and_the_windows():
    model = swin("swin_t", attention=Placed, **MAPS)
    model.resize((56, 70), window=(3, 4))
    parts = [part for part in model.modules() if isinstance(part, Placed)]
    assert [(part.grid, part.window) for part in parts] == [((8, 10), (3, 4))] * 2 + [((4, 5), (3, 4))] * 2


def test_a_whole_model_as_a_block_of_another_keeps_its_weights():
    inner = vit("Ti/16", **PATCHED)
    outer = vit("Ti/16", block=lambda dim, **_: Holder(inner), **PATCHED)
    again = vit("Ti/16", **PATCHED)
    again.load_state_dict(inner.state_dict())
    assert outer.blocks[0].inner is inner
    assert all(torch.equal(a, b) for a, b in zip(inner.parameters(), again.parameters(), strict=True))


class Holder(Foreign):
    """Holds parts of the package, and asks them nothing."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.born()


def test_a_spatial_part_is_told_its_width_its_stride_and_its_dilation():
    told = []

    def spatial(width: int, **options: int) -> nn.Module:
        told.append((width, options))
        return nn.Identity()

    ResNet(partial(bottleneck, spatial=spatial), depths=(1, 2, 1), width=6, dilations=(1, 1, 2))
    expected = [(6, 1, 1), (12, 2, 1), (12, 1, 1), (24, 1, 1)]
    assert told == [(width, {"stride": stride, "dilation": d}) for width, stride, d in expected]
