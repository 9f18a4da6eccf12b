"""The averaging classifiers."""

from attention_notes.papers.averaging.model import VARIANTS, averaging

from attention_notes.papers import Family, in_tests

FAMILY = Family(averaging, VARIANTS, in_tests("its equation"))
