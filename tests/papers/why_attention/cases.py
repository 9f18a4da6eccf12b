"""What the suite over all models needs to know."""

NO_MODEL = {"why_attention": "instruments, and layers to point them at"}
