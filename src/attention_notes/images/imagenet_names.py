"""What the classes of ImageNet are called, in the order in which models answer.

The words are those of WordNet 3.0, shipped as ``data/imagenet/classes.tsv.gz``; how it was made is written in its head.
"""

import gzip
from collections import Counter
from functools import cache
from importlib import resources

LISTS = {"imagenet": "i", "imagenet21k": "g", "imagenet22k": "f"}  # and their letters in the data file


@cache
def names(which: str = "imagenet") -> tuple[str, ...]:
    """The names of all classes of a list, each but once.

    A class has its first lemma for a name ("tench"). Where others begin with the same word, it has one that is its own
    ("tank suit", since another class is a maillot), or else the word and what is meant by it ("crane (bird)").

    Args:
        which: ``"imagenet"``, the 1,000 classes of ILSVRC 2012; ``"imagenet21k"``, the 21,843 of Google's models;
            ``"imagenet22k"``, the 21,841 of the release of fall 2011, which are those without ``bleacher`` and
            ``picture``. All three are sorted by WordNet id, as in timm. (The table with which Swin's authors go from
            22k to the thousand counts those two, as Google does. That is where a head is to start before it is tuned,
            and does not tell in which order the head of 22k was trained.)

    Raises:
        ValueError: if there is no such list.
    """
    if which not in LISTS:
        raise ValueError(f"unknown classes {which!r}; known: {', '.join(LISTS)}")
    rows = [(lemmas.split(", "), gloss) for _, lists, lemmas, gloss in _classes() if LISTS[which] in lists]
    first = Counter(lemmas[0] for lemmas, _ in rows)
    holders = Counter(lemma for lemmas, _ in rows for lemma in {*lemmas})

    def own(lemmas: list[str]) -> str | None:
        if first[lemmas[0]] == 1:
            return lemmas[0]
        return next((lemma for lemma in lemmas if holders[lemma] == 1), None)

    chosen = [own(lemmas) for lemmas, _ in rows]
    left = Counter(lemmas[0] for (lemmas, _), name in zip(rows, chosen, strict=True) if name is None)
    return tuple(
        name or (lemmas[0] if left[lemmas[0]] == 1 else f"{lemmas[0]} ({gloss})")
        for (lemmas, gloss), name in zip(rows, chosen, strict=True)
    )


def synsets(which: str = "imagenet") -> tuple[str, ...]:
    """The WordNet ids of all classes of a list, such as ``n01440764``, in the order of ``names``."""
    if which not in LISTS:
        raise ValueError(f"unknown classes {which!r}; known: {', '.join(LISTS)}")
    return tuple(synset for synset, lists, _, _ in _classes() if LISTS[which] in lists)


@cache
def _classes() -> tuple[tuple[str, str, str, str], ...]:
    """The id, the lists, the lemmas and the gloss, or nothing, of every class."""
    packed = resources.files("attention_notes.images").joinpath("imagenet/classes.tsv.gz").read_bytes()
    lines = gzip.decompress(packed).decode().splitlines()
    rows = ((*line.split("\t"), "")[:4] for line in lines if not line.startswith("#"))
    return tuple((synset, lists, lemmas, gloss) for synset, lists, lemmas, gloss in rows)
