"""Real inputs that need no download: they ship with a library or are generated from one."""

import gzip
import re
from collections import Counter
from importlib import resources

import torch
from jaxtyping import Float, Int
from torch import Tensor


def photograph(name: str = "china") -> Float[Tensor, "3 y x"]:
    """One of scikit-learn's two photographs, ``china`` (a temple) or ``flower``, 427 x 640, colours from 0 to 1.

    Raises:
        ValueError: if there is no photograph of that name.
    """
    if name not in ("china", "flower"):
        raise ValueError(f"unknown photograph {name!r}; known: china, flower")
    from sklearn.datasets import load_sample_image

    return torch.from_numpy(load_sample_image(f"{name}.jpg").copy()).movedim(-1, 0) / 255


def sentences() -> list[str]:
    """3,913 sentences of real English, each once: the reference manual of Python 3.11.7, which ships with the package.

    Every Python carries a manual of its own, so a text read from there would change with the reader's Python.
    """
    file = resources.files("attention_notes.chapters.data") / "manual" / "sentences.txt.gz"
    return gzip.decompress(file.read_bytes()).decode().splitlines()


def word_vectors(
    text: list[str], *, width: int = 64, window: int = 3, at_least: int = 10
) -> dict[str, Float[Tensor, "{width}"]]:
    """Vectors for the words of a text, from the company that they keep: no training, only counting.

    How much more often than by chance two words stand within ``window`` words of one another (positive pointwise mutual
    information), compressed to ``width`` numbers a word by keeping the largest singular values (Levy and Goldberg 2014,
    section 4.2, unshifted, with the roots of the singular values).

    Args:
        text: sentences; letters count, case does not.
        width: length of a vector.
        window: how many words to either side are company.
        at_least: words that are rarer are left out, and so are those of one or two letters.

    Returns:
        The vectors by word, the most frequent word first.
    """
    spoken = [[w for w in re.findall("[a-z]+", sentence.lower()) if len(w) > 2] for sentence in text]
    kept = [w for w, n in Counter(w for sentence in spoken for w in sentence).most_common() if n >= at_least]
    index = {word: i for i, word in enumerate(kept)}
    heard = [[index[w] for w in sentence if w in index] for sentence in spoken]
    pairs = [pair for ids in heard for gap in range(1, window + 1) for pair in zip(ids[gap:], ids, strict=False)]
    a, b = torch.tensor(pairs).T
    near = torch.bincount(a * len(kept) + b, minlength=len(kept) ** 2).unflatten(0, (len(kept), -1)).double()
    near = near + near.T
    surprise = (near * near.sum() / near.sum(0) / near.sum(1, keepdim=True)).nan_to_num().clamp(min=1).log()
    values, directions = torch.linalg.eigh(surprise)
    largest = values.abs().topk(min(width, len(kept))).indices
    vectors = directions[:, largest] * values[largest].abs().sqrt()
    return dict(zip(kept, vectors.float(), strict=True))


def digits(
    *, held_out: int = 4
) -> tuple[tuple[Float[Tensor, "b 1 8 8"], Int[Tensor, " b"]], tuple[Float[Tensor, "k 1 8 8"], Int[Tensor, " k"]]]:
    """1,797 scanned digits of scikit-learn, 8 x 8 pixels from 0 to 1: images and labels to train on, then to test on.

    Of each digit, every ``held_out``-th image is for the test, so that both parts have all digits in the same shares.
    Both parts come from the same 13 writers (Alpaydin & Kaynak 1998): the test is about new images, not new hands.

    Raises:
        ValueError: if ``held_out`` is below two: nothing would be left to train on.
    """
    if held_out < 2:
        raise ValueError(f"held_out={held_out} leaves no image to train on; choose 2 or more")
    from sklearn.datasets import load_digits

    raw = load_digits()
    images, labels = torch.from_numpy(raw.images).float()[:, None] / 16, torch.from_numpy(raw.target).long()
    seen_before = torch.nn.functional.one_hot(labels).cumsum(0).gather(1, labels[:, None])[:, 0]
    test = seen_before % held_out == 0
    return (images[~test], labels[~test]), (images[test], labels[test])


def shifted(images: Float[Tensor, "b ch y x"], *, pixels: int = 1) -> Float[Tensor, "s b ch y x"]:
    """Every image moved by up to ``pixels`` in both directions, zeros moving in: ``s = (2 pixels + 1)^2`` copies."""
    y, x = images.shape[-2:]
    wide = torch.nn.functional.pad(images, (pixels,) * 4)
    moves = range(2 * pixels + 1)
    return torch.stack([wide[..., down : down + y, right : right + x] for down in moves for right in moves])
