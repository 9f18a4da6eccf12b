"""Small models for the suite over all models."""

from collections.abc import Callable
from functools import partial

from torch import nn

from attention_notes.papers.layer_norm import BatchNorm, PowerNorm, RMSNorm, with_norm
from attention_notes.papers.vit import vit
from tests.contract import Case, images
from tests.papers.vit.cases import TINY


def _renormed(norm: Callable[..., nn.Module], **options) -> nn.Module:
    return with_norm(vit("Ti/16", **TINY, **options), norm)


MODELS = {
    "layer_norm rms": Case(partial(_renormed, RMSNorm), images),
    "layer_norm batch": Case(partial(_renormed, BatchNorm), images),
    # its running statistic moves in every pass of training, as dropping does
    "layer_norm power": Case(partial(_renormed, PowerNorm, dropout=0.1), images),
}
