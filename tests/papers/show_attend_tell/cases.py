"""Small models for the suite over all models."""

from torch import nn

from attention_notes.papers.show_attend_tell import ShowAttendTell
from tests.contract import Case, captioned


def _build() -> ShowAttendTell:
    features = nn.Sequential(nn.Conv2d(3, 5, 7, stride=7), nn.Tanh())
    return ShowAttendTell(features, annotation=5, vocabulary=23, dim=11, words=7, hidden=13)


MODELS = {"show_attend_tell": Case(_build, captioned)}
