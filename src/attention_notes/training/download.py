"""The files of public data sets, from where their authors publish them and by the MD5 that they publish."""

import hashlib
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.error import URLError

from torch.hub import download_url_to_file


@dataclass(frozen=True)
class Source:
    """A file, and of an archive the members that are wanted."""

    url: str
    md5: str
    members: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of the file."""
        return PurePosixPath(self.url).name


_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_CIFAR = "https://www.cs.toronto.edu/~kriz/"
SOURCES: Mapping[str, tuple[Source, ...]] = {
    # the table of github.com/zalandoresearch/fashion-mnist
    "fashion_mnist": (
        Source(f"{_FASHION}train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        Source(f"{_FASHION}train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
        Source(f"{_FASHION}t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
        Source(f"{_FASHION}t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
    ),
    # the table of www.cs.toronto.edu/~kriz/cifar.html, binary versions
    "cifar10": (
        Source(
            f"{_CIFAR}cifar-10-binary.tar.gz",
            "c32a1d4ab5d03f1284b67883e8d87530",
            (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin", "batches.meta.txt"),
        ),
    ),
    "cifar100": (
        Source(
            f"{_CIFAR}cifar-100-binary.tar.gz",
            "03b5dce01913d631647c71ecec9e9cb8",
            ("train.bin", "test.bin", "fine_label_names.txt"),
        ),
    ),
}


def download(name: str, root: Path, *, progress: bool = True) -> None:
    """Put the files of a set into a folder, which is made where it is missing; those that are there are kept.

    Raises:
        ValueError: if the set is not one of ``SOURCES``, if a file cannot be had, or if it is not what was published.
    """
    if name not in SOURCES:
        raise ValueError(f"the files of {name} are not downloaded; known: {', '.join(SOURCES)}")
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{root} cannot be a folder of images: {error.strerror}") from None
    for source in SOURCES[name]:
        wanted = source.members or (source.name,)
        if all((root / member).is_file() for member in wanted):
            continue
        part = root / f".{source.name}.part"
        try:
            download_url_to_file(source.url, str(part), progress=progress)
            _check(part, source)
            if source.members:
                _unpack(part, root, source.members)
            else:
                part.replace(root / source.name)
        except (URLError, OSError) as error:
            raise ValueError(f"{source.url} cannot be had: {error}; or put it into {root} yourself") from None
        finally:
            part.unlink(missing_ok=True)


def _check(file: Path, source: Source) -> None:
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "md5").hexdigest()
    if found != source.md5:
        raise ValueError(f"what came from {source.url} is not what was published: its MD5 is {found}, not {source.md5}")


def _unpack(archive: Path, root: Path, members: tuple[str, ...]) -> None:
    """The wanted members alone, each as a plain file in ``root``, wherever the archive has it."""
    with tarfile.open(archive) as opened:
        for member in opened:
            name = PurePosixPath(member.name).name
            content = opened.extractfile(member) if name in members and member.isfile() else None
            if content is not None:
                part = root / f".{name}.part"
                part.write_bytes(content.read())
                part.replace(root / name)
