"""The model that reads dates in 33 languages, trained: the chapter on the Transformer says how, and how well it reads.

``make date-reader`` trains it once more and stores its weights, in half precision, with the characters it knows.
"""

from importlib import resources

from safetensors import safe_open

from attention_notes.chapters.data.dates import Characters
from attention_notes.papers.transformer import PreNorm, Transformer, transformer

SIZES = {"layers": 1, "dim": 64, "hidden": 128, "heads": 4, "dropout": 0.0}


def date_reader() -> tuple[Transformer, Characters]:
    """The model, in evaluation mode, on the CPU and in single precision, and the characters that it knows."""
    file = resources.files("attention_notes.chapters.data") / "date_reader.safetensors"
    with resources.as_file(file) as path, safe_open(path, framework="pt") as stored:
        characters = Characters([stored.metadata()["characters"]])
        weights = {name: stored.get_tensor(name).float() for name in stored.keys()}  # noqa: SIM118 - no dictionary
    model = transformer("base", vocabulary=len(characters), residual=PreNorm, **SIZES)
    model.load_state_dict(weights)
    return model.eval(), characters
