"""How fast the models are, beside other people's and beside what the machine can do: ``python -m benchmarks``."""

import os

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler, asked for memory alone, would print at every start
