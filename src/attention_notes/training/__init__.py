"""Training for real: a recipe of a paper, or your own, from one CPU to many GPUs.

``attention-notes train`` is the shell's entrance, ``train`` that of a program. It needs ``attention-notes[train]``.
"""

from attention_notes.training.loop import Outcome, Running, train
from attention_notes.training.recipe import Recipe, load_recipe, names

__all__ = ["Outcome", "Recipe", "Running", "load_recipe", "names", "train"]
