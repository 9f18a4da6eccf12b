"""Small models of every paper, and the same of other libraries: those of ``tests/papers/<key>/foreign.py``."""

from tests.discovery import of_papers

CASES = {name: case for _, name, case in of_papers("foreign", "CASES")}
# the first of each family: what is asked of every layout
MODELS = {name.split()[0]: case.ours for name, case in reversed(CASES.items())}
