"""The ResNets with non-local blocks."""

from attention_notes.papers import Family, in_tests
from attention_notes.papers.non_local.model import VARIANTS, non_local_resnet

FAMILY = Family(non_local_resnet, VARIANTS, in_tests("its equations"))
