"""What a trunk needs of the modules that it is given: whoever has these attributes may be plugged in."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from attention_notes.nn.sizes import Size

Pair = tuple[int, int]
Tokens = Float[Tensor, "b n c"] | Float[Tensor, "b gy gx c"]  # in a row, or on a map
Make = Callable[..., nn.Module]  # makes a part, from its width and what else the trunk's docstring names


@runtime_checkable
class Stem(Protocol):
    """Turns images into tokens of width ``dim``, one for each cell of ``grid``, row by row.

    The stem itself checks its images, as nobody else knows what it can take.
    """

    dim: int

    @property
    def grid(self) -> Pair:
        """Rows and columns of tokens."""

    def __call__(self, images: Float[Tensor, "b ch y x"], /) -> Float[Tensor, "b n c"]:
        """``n`` is rows times columns."""


@runtime_checkable
class Resizable(Protocol):
    """A stem that can be told, in place, to expect images of another size; its ``grid`` then follows."""

    def resize(self, image_size: Size) -> object:
        """Raises ``ValueError``, before anything has changed, for a size that it cannot take."""


def resize_stem(stem: Stem, image_size: Size) -> None:
    """Tell a stem of another size of images.

    Raises:
        TypeError: if the stem cannot be told.
    """
    if not isinstance(stem, Resizable):
        raise TypeError(f"{type(stem).__name__} has no resize(image_size): images of one size are all that it takes")
    stem.resize(image_size)


@runtime_checkable
class Pooling(Protocol):
    """Stands for the image: puts ``extra`` tokens of its own in front of the patches, and reads the last layer."""

    extra: int

    def prepend(self, patches: Tokens, /) -> Tokens:
        """``n + extra`` tokens; of a map with extra tokens, a map of a single row."""

    def __call__(self, z: Tokens, /) -> Float[Tensor, "b *_"]:
        """Read what stands for the image, of width ``c``."""


@runtime_checkable
class Cut(Protocol):
    """A way to cut maps of one size into windows of queries, each with the keys that it may look at.

    Windows that lie side by side are ``nn.windows.Windows``. Others: a *halo*, where the keys are those of a larger
    window around the queries; *dilated* windows, of tokens that lie apart; a *global* one, which is the whole map.
    """

    window: Pair  # rows and columns of the queries of a window
    keys: Pair  # and of its keys, both around one middle: a bias of positions has one entry for each such offset

    def cut(self, x: Float[Tensor, "b gy gx c"]) -> Float[Tensor, "s n c"]:
        """The queries, image by image and window by window."""

    def cut_keys(self, x: Float[Tensor, "b gy gx c"], queries: Float[Tensor, "s n c"]) -> Float[Tensor, "s m c"]:
        """The keys of each window; ``queries`` itself, the very tensor, where they are the same tokens."""

    def join(self, windows: Float[Tensor, "s n c"]) -> Float[Tensor, "b gy gx c"]:
        """Undo ``cut``."""

    def scores(self, bias: Float[Tensor, "h n m"], *, images: int) -> Float[Tensor, "s h n m"]:
        """What to add to the scores: the bias, and -inf for masked pairs; ``s`` is 1 if all windows share it."""

    def regrid(self, grid: Pair, *, window: Pair) -> None:
        """Cut maps of another size, or into other windows, from now on."""


@runtime_checkable
class OnGrid(Protocol):
    """A part of a stage that has to know the size of its map, and is told when that changes."""

    def regrid(self, grid: Pair, *, window: Pair) -> None:
        """The map has ``grid`` rows and columns now, and windows are to have those of ``window``."""


def regrid(module: nn.Module, grid: Pair, *, window: Pair) -> None:
    """Tell the outermost parts of ``module`` that are ``OnGrid``; what is inside of them is their own affair."""
    for part in module.children():
        if isinstance(part, OnGrid):
            part.regrid(grid, window=window)
        else:
            regrid(part, grid, window=window)
