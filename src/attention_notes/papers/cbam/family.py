"""The ResNets with CBAM in every block."""

from attention_notes.papers import Family, in_tests
from attention_notes.papers.cbam.model import VARIANTS, cbam

FAMILY = Family(cbam, VARIANTS, in_tests("its equations"))
