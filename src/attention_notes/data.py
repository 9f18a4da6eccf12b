"""Real inputs that need no download: they ship with a library or are generated from one."""
