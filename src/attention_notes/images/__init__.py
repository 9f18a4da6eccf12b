"""Images from outside: whatever they come as, and what a model was trained to see of them."""

import io
import math
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from PIL import ExifTags, Image
from torch import Tensor

from attention_notes.nn.sizes import Size, pair


@runtime_checkable
class Readable(Protocol):
    """A file that was opened for reading bytes, or what behaves so."""

    def read(self, size: int = -1, /) -> bytes:
        """Read as many bytes, or all that are left."""
        ...


Source = str | os.PathLike[str] | bytes | bytearray | memoryview | Readable | Image.Image | np.ndarray | Tensor

# What is tried: no format whose reader starts another program (EPS), and none that takes any bytes for its own (TGA).
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "AVIF", "JPEG2000", "ICO")
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
# EXIF 2.3, section 4.6.4: what undoes the turn of the camera
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LARGEST = 2**27  # pixels of an image between scaling and cropping: 400 MB


def suffixes() -> list[str]:
    """How names of files of the ``FORMATS`` end, in lower case."""
    Image.init()
    return sorted(suffix for suffix, format in Image.registered_extensions().items() if format in FORMATS)


def read_image(source: Source) -> Image.Image:
    """The image in ``source`` as people see it, in RGB.

    Turned as its EXIF orientation says. Grey becomes three equal colours, 16 bits of it become 8 by scaling (PIL's own
    conversion clips them). What is transparent lies on white, the page for which cut-outs and drawings are made; to
    drop the alpha channel would uncover colours that nobody was meant to see. Of an animation it is the first frame.
    Colour profiles are not applied; nor are they by timm, torchvision and transformers.

    Args:
        source: a path; the bytes of a file or a file opened for reading bytes, from where it stands; an image of PIL;
            or pixels as an array or a tensor, ``y x 3``, of uint8. The name of a file says nothing, its bytes do.

    Raises:
        FileNotFoundError: if there is no file at that path.
        ValueError: if it cannot be read as an image: a directory, an empty, broken or truncated file, another format
            than those in ``FORMATS``; more than ``PIL.Image.MAX_IMAGE_PIXELS`` pixels, which is found out before any is
            decoded; pixels of another shape or type; and values of which nothing says how much is white.
        TypeError: if ``source`` is none of these.
    """
    if isinstance(source, Image.Image):
        return _decoded(source, "the image given")
    if isinstance(source, np.ndarray | Tensor):
        return Image.fromarray(_pixels(source))
    data, name = _bytes(source)
    if not data:
        raise ValueError(f"{name} is empty")
    Image.init()  # loads all readers, so that what this build of PIL lacks can be left out
    with _reading(name, data):
        image = Image.open(io.BytesIO(data), formats=[f for f in FORMATS if f in Image.OPEN])
    return _decoded(image, name)


@contextmanager
def _reading(name: str, data: bytes = b"") -> Iterator[None]:
    """Say what is wrong with a file, in one error and no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a reader can mend is nothing to tell
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            yield
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ValueError(
                f"{name} is too large: {str(error).split(', could')[0]}; save it smaller or, if you trust it, set "
                "PIL.Image.MAX_IMAGE_PIXELS"
            ) from error
        except Image.UnidentifiedImageError as error:
            raise ValueError(
                f"{name} is no image of a kind that is read here ({', '.join(FORMATS)}), or its head is damaged: it "
                f"begins with {data[:12]!r}. Save others, such as HEIC, as JPEG or PNG"
            ) from error
        except Exception as error:  # a decoder may raise anything for damaged bytes
            reason = str(error).strip() or type(error).__name__
            raise ValueError(f"{name} cannot be decoded, it is broken or incomplete: {reason}") from error


def _bytes(source: Any) -> tuple[bytes, str]:
    """What is in a file, and how to speak of it."""
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source), "the file given as bytes"
    if isinstance(source, Readable):
        data, name = source.read(), f"the file {getattr(source, 'name', 'given')}"
        if not isinstance(data, bytes):
            raise ValueError(f"{name} was opened as text: open it with mode 'rb'")
        return data, name
    if not isinstance(source, str | os.PathLike):
        raise TypeError(
            f"an image was expected, not {type(source).__name__}: give a path, bytes, an open file, an image of PIL, "
            "an array or a tensor"
        )
    path = Path(source)
    if "://" in str(source):
        raise FileNotFoundError(f"{source} is an address: nothing is fetched here; download it and give its path")
    if path.is_dir():
        raise ValueError(f"{path} is a directory; give the path of one image in it")
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}" + ("" if path.is_absolute() else f" in {Path.cwd()}"))
    return path.read_bytes(), str(path)


def _pixels(pixels: np.ndarray | Tensor) -> np.ndarray:
    kind = str(pixels.dtype).removeprefix("torch.")
    if kind == "uint8" and pixels.ndim == 3 and pixels.shape[2] == 3 and 0 not in pixels.shape:
        array = pixels.detach().cpu().numpy() if isinstance(pixels, Tensor) else pixels
        return np.ascontiguousarray(array)
    given = f"pixels of {kind} in the shape {tuple(pixels.shape)}, not of uint8 in y x 3"
    if 0 in pixels.shape:
        way = "there are none"
    elif kind != "uint8":
        way = "colours from 0 to 1 are made so by (255 * pixels).round(), as uint8"
    elif pixels.ndim == 3 and pixels.shape[0] == 3:
        way = "move the colours to the end, as with rearrange(pixels, 'ch y x -> y x ch')"
    elif pixels.ndim == 4:
        way = "give one image at a time"
    else:
        way = "for grey or transparent ones give PIL.Image.fromarray(pixels)"
    raise ValueError(f"{given}: {way}")


def _decoded(image: Image.Image, name: str) -> Image.Image:
    """The pixels of an image that is open, upright, in three colours of 8 bits."""
    with _reading(name):
        image.load()
        upright = _upright(image)
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_grey(upright, name, format=image.format)).convert("RGB")
    if image.mode == "LAB":
        raise ValueError(f"{name} has the mode LAB, whose colours depend on a profile: save it as RGB")
    with _reading(name):
        found = _on_white(upright) if image.has_transparency_data else upright.convert("RGB")
    found.info.clear()  # or it would be turned again when it is read again
    return found


def _upright(image: Image.Image) -> Image.Image:
    """A copy, turned as its EXIF says. ``ImageOps.exif_transpose`` writes the EXIF anew, and fails where it cannot."""
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # the picture is whole, only what is told of it is damaged: it stays as it lies
        turn = None
    return image.copy() if turn is None else image.transpose(turn)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "La":  # from which PIL knows one way only
        image = image.convert("LA")
    page = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(page, image.convert("RGBA")).convert("RGB")


def _grey(image: Image.Image, name: str, *, format: str | None) -> np.ndarray:
    """8 bits from 16, which PIL hands over as 32 where a PGM has them, and before its release 11 where a PNG has."""
    values = np.asarray(image)
    if image.mode in ("I", "F") and not (image.mode == "I" and format in ("PNG", "PPM")):
        raise ValueError(
            f"{name} has the mode {image.mode}, with values from {values.min()} to {values.max()}, and does not say "
            "which of them is white: scale them to 0 ... 255 and give an image of mode L"
        )
    return ((values.astype(np.int64) * 255 + 32767) // 65535).astype(np.uint8)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What is made of an image before a model sees it: scaled, cut, and its colours centred.

    With a ``crop`` the image keeps its shape: it is scaled until it just covers floor(size / crop), and ``size`` is cut
    from its middle, as in timm; ``crop=0.875`` is the old rule of 256 and 224 pixels. With ``crop=None`` all of the
    image is squashed to ``size``, as the processor of ViT in transformers does. It is done on 8 bits, by PIL, and gives
    the numbers of timm bit by bit.

    Args:
        mean: of red, green and blue, from 0 to 1; it becomes 0.
        std: what becomes 1 above the mean.
        interpolation: ``"bicubic"`` or ``"bilinear"``, both with antialiasing where the image shrinks.
        crop: share of the scaled image that is kept, along each side; or ``None``.

    Raises:
        ValueError: if one of these is none of what it can be.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    crop: float | None = None

    def __post_init__(self) -> None:
        if self.interpolation not in _FILTERS:
            raise ValueError(f"unknown interpolation {self.interpolation!r}; known: {', '.join(_FILTERS)}")
        if self.crop is not None and not 0 < self.crop <= 1:
            raise ValueError(f"crop={self.crop} is no share: it is above 0 and at most 1, or None for the whole image")
        if len(self.mean) != 3 or len(self.std) != 3 or not all(map(math.isfinite, (*self.mean, *self.std))):
            raise ValueError(f"mean={self.mean}, std={self.std}: three numbers each, for red, green and blue")
        if min(self.std) <= 0:
            raise ValueError(f"std={self.std}: colours are divided by it, so it is above 0")

    def __call__(self, image: Source, *, size: Size) -> Float[Tensor, "1 3 y x"]:
        """A batch of one, in float32; ``size`` is height and width in pixels, or one number for both.

        Raises:
            ValueError: if the image is so thin that it would have more than 2^27 pixels when its short side fits; and
                what ``read_image`` raises.
        """
        pixels = np.array(self.cut(read_image(image), size=size))
        colours = rearrange(torch.from_numpy(pixels), "y x ch -> 1 ch y x").contiguous().float().div(255)
        return (colours - self._column(self.mean)) / self._column(self.std)

    def transform(self, size: Size) -> Callable[[Source], Float[Tensor, "3 y x"]]:
        """The same for one image, as ``transform=`` of a ``Dataset``; a ``DataLoader`` makes batches of its results.

        It can be pickled, as the workers of a ``DataLoader`` need it. Nothing in it is random.
        """
        return partial(self._single, size=pair(size))

    def _single(self, image: Source, *, size: Size) -> Float[Tensor, "3 y x"]:
        return self(image, size=size)[0]

    def cut(self, image: Image.Image, *, size: Size) -> Image.Image:
        """The part of the image that the model sees, at the model's size."""
        (y, x), (rows, columns), (top, left) = self._frame((image.height, image.width), size)
        return image.resize((columns, rows), _FILTERS[self.interpolation]).crop((left, top, left + x, top + y))

    def place(self, at: tuple[int, int], *, image: tuple[int, int], size: Size) -> tuple[int, int]:
        """Where a pixel of the image lies in what the model sees.

        Args:
            at: row and column in the image, from 0 at the top left.
            image: rows and columns of the image.
            size: as in a call.

        Raises:
            ValueError: if the image has no such pixel, or if it is cut away.
        """
        if not (0 <= at[0] < image[0] and 0 <= at[1] < image[1]):
            raise ValueError(f"{at} is no pixel of an image of {image[0]} x {image[1]}: rows and columns count from 0")
        seen, scaled, start = self._frame(image, size)
        axes = [*zip(at, image, seen, scaled, start, strict=True)]
        # the middle of the pixel, (a + 1/2) of n, lies in this one of the scaled image
        row, column = ((2 * a + 1) * large // (2 * n) - first for a, n, _, large, first in axes)
        if not (0 <= row < seen[0] and 0 <= column < seen[1]):
            left = [
                [-((large - 2 * n * edge) // (2 * large)) for edge in (first, first + side)]
                for _, n, side, large, first in axes
            ]
            (top, below), (first, beyond) = left
            raise ValueError(
                f"{at} is cut away before the model sees the image: it sees rows {top} to {below - 1} and columns "
                f"{first} to {beyond - 1} of {image[0]} x {image[1]}"
            )
        return row, column

    def _frame(self, image: tuple[int, int], size: Size) -> tuple[tuple[int, int], ...]:
        """Rows and columns of what the model sees, of the scaled image, and where in it the first of them lies."""
        y, x = pair(size)
        if min(y, x) < 1:
            raise ValueError(f"size={size}: a model sees one pixel or more each way")
        if self.crop is None:
            return (y, x), (y, x), (0, 0)
        rows, columns = _covering(image, (y, x), self.crop)
        if rows * columns > _LARGEST:
            raise ValueError(
                f"an image of {image[0]} x {image[1]} is too thin: to cover {y} x {x} it would have to be scaled to "
                f"{rows} x {columns}; cut it yourself, or squash it with crop=None"
            )
        # rounded as in torchvision: halves go to the even neighbour
        return (y, x), (rows, columns), (round((rows - y) / 2), round((columns - x) / 2))

    def undo(self, images: Float[Tensor, "1 3 y x"]) -> Float[Tensor, "y x 3"]:
        """What the model saw, to be shown: colours from 0 to 1, on the CPU."""
        colours = images.detach().float().cpu()
        return rearrange(colours * self._column(self.std) + self._column(self.mean), "1 ch y x -> y x ch").clamp(0, 1)

    @staticmethod
    def _column(values: tuple[float, float, float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32).reshape(1, 3, 1, 1)


def _covering(image: tuple[int, int], size: tuple[int, int], crop: float) -> tuple[int, int]:
    """Rows and columns of an image scaled until it covers floor(size / crop), rounded as timm and torchvision do."""
    (rows, columns), (y, x) = image, (math.floor(side / crop) for side in size)
    if y == x:  # the long side is rounded down
        return (y, int(y * columns / rows)) if rows <= columns else (int(x * rows / columns), x)
    ratio = min(rows / y, columns / x)
    return round(rows / ratio), round(columns / ratio)
