"""``python -m tests.training.run train ...``: the shell's entrance, with any build of torchvision."""

from attention_notes.__main__ import run
from tests.operators import declare_operators

if __name__ == "__main__":
    declare_operators()
    run()
