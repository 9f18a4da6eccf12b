"""What ``{source}`` shows: the code that runs, without what the page says in its own words."""

import pytest
from executed.source import source_of

MODULE = '''"""A module."""
SIZES = {"s": 1}


class Part:
    """What it is.

    Raises:
        ValueError: if not.
    """

    size = 3

    def __init__(self, size: int) -> None:
        """Make it."""
        if size < 1:
            raise ValueError(
                f"size={size} is none"
            )
        _check_size(size)
        self.size = size

    def forward(self, x: int) -> int:
        """Say it."""
        if x > 3:
            y = 2
        else:
            raise ValueError("kept: it decides something")
        return y


def alone() -> None:
    """It says what it is, and is nothing else."""
'''


@pytest.fixture
def root(tmp_path):
    package = tmp_path / "src/attention_notes"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "parts.py").write_text(MODULE)
    return tmp_path


def test_docstrings_and_what_refuses_its_input_are_left_out(root):
    assert (
        source_of("attention_notes.parts.Part", root)
        == """class Part:
    size = 3

    def __init__(self, size: int) -> None:
        self.size = size

    def forward(self, x: int) -> int:
        if x > 3:
            y = 2
        else:
            raise ValueError("kept: it decides something")
        return y"""
    )


def test_a_method_stands_at_the_margin_and_a_constant_is_found(root):
    assert source_of("attention_notes.parts.Part.__init__", root).splitlines()[1] == "    self.size = size"
    assert source_of("attention_notes.parts.SIZES", root) == 'SIZES = {"s": 1}'


def test_what_has_only_a_docstring_keeps_it(root):
    assert "It says what it is" in source_of("attention_notes.parts.alone", root)


@pytest.mark.parametrize("name", ["attention_notes.nothing", "attention_notes.parts.Nothing"])
def test_what_is_not_there_is_named(root, name):
    with pytest.raises(LookupError, match="no"):
        source_of(name, root)
