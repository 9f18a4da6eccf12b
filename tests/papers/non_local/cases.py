"""Small models for the suite over all models."""

from functools import partial

from torch import nn

from attention_notes.papers.non_local import C2D, Concatenation, DotProduct, Gaussian, NonLocal, insert
from attention_notes.papers.resnet import ResNet, basic
from tests.contract import Case, clips, images


def non_local(dims: int, **options) -> nn.Module:
    net = ResNet(basic, depths=(1, 2, 2, 1), width=6, num_classes=5)
    return insert(net, {1: (0, 1), 2: (0,)}, block=partial(NonLocal, dims=dims, subsample=2, **options))


CUBIC = "cubic in its input and bounded by nothing, it loses up to 0.13, and so does the literal N x N form"
MODELS = {
    "non_local": Case(partial(non_local, 2), images),
    "non_local gaussian": Case(partial(non_local, 2, pairwise=Gaussian, batch_norm=False), images),
    "non_local dot product": Case(
        partial(non_local, 2, pairwise=DotProduct), images, no_softmax="scores divided by N", no_bfloat16=CUBIC
    ),
    "non_local concatenation": Case(
        partial(non_local, 2, pairwise=Concatenation),
        images,
        no_softmax="rectified scores divided by N",
        no_onnx="ONNX has no search in sorted numbers",
    ),
    "non_local clips": Case(lambda: C2D(non_local(3)), clips),
}
