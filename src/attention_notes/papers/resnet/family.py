"""The ResNets."""

from attention_notes.papers import Family, in_tests
from attention_notes.papers.resnet.model import VARIANTS, resnet

FAMILY = Family(resnet, VARIANTS, in_tests("torchvision"))
