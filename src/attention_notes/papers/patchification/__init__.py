"""Scaling Laws in Patchification: An Image Is Worth 50,176 Tokens And More."""

# Imported so that the maps of attention know where extended tokens lie.
from attention_notes.papers.patchification import geometry
from attention_notes.papers.patchification.model import VARIANTS, ExtendedPatches, patchification

__all__ = ["VARIANTS", "ExtendedPatches", "geometry", "patchification"]
