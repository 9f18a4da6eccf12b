"""Small models for the suite over all models."""

from collections.abc import Callable
from functools import partial

from torch import nn

from attention_notes.papers.dnl import DNL, Added, Coupled, Disentangled, DNLNet, Multiplied, Pairwise, Unary
from attention_notes.papers.resnet import ResNet, basic
from tests.contract import Case, images


def _disentangled(attention: Callable[..., nn.Module]) -> nn.Module:
    backbone = ResNet(basic, depths=(1, 1), width=8, dilations=(1, 1), num_classes=None)
    return DNLNet(backbone, num_classes=5, dim=10, block=partial(DNL, attention=attention))


MODELS = {
    "dnl": Case(partial(_disentangled, Disentangled), images),
    "dnl coupled": Case(partial(_disentangled, Coupled), images),
    "dnl multiplied": Case(partial(_disentangled, Multiplied), images),
    "dnl added": Case(partial(_disentangled, Added), images),
    "dnl pairwise": Case(partial(_disentangled, Pairwise), images),
    "dnl unary": Case(partial(_disentangled, Unary), images),
}
