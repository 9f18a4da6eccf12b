"""The networks for segmentation with a disentangled non-local block."""

from attention_notes.papers import Family, in_tests
from attention_notes.papers.dnl.model import VARIANTS, dnl

FAMILY = Family(dnl, VARIANTS, in_tests("its equations"), size=512)
