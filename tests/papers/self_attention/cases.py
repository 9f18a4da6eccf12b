"""Small models for the suite over all models."""

NO_MODEL = {"self_attention": "an operation without parameters and the parts around it"}
