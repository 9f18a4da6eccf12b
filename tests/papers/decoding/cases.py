"""What the suite over all models needs to know."""

NO_MODEL = {"decoding": "ways to write with a model, and no model"}
