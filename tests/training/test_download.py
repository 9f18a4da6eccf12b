"""Files of data sets come whole and as published, or not at all; from a server on this machine."""

import gzip
import hashlib
import io
import tarfile

import pytest

from attention_notes.__main__ import main
from attention_notes.training import download as downloads
from attention_notes.training.data import open_sets
from attention_notes.training.download import SOURCES, Source, download
from attention_notes.training.recipe import load_recipe
from tests.book.visiting import serving
from tests.training.test_data import write_cifar, write_fashion


def md5(content):
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "published"
    folder.mkdir()
    with serving(folder) as address:
        yield folder, address


def fashion(folder, address, monkeypatch):
    write_fashion(folder, counts=(64, 20))
    files = sorted(folder.glob("*.gz"))
    sources = tuple(Source(f"{address}/{file.name}", md5(file.read_bytes())) for file in files)
    monkeypatch.setattr(downloads, "SOURCES", {"fashion_mnist": sources})
    return files


def test_the_files_come_and_are_read_and_do_not_come_twice(server, tmp_path, monkeypatch):
    folder, address = server
    files = fashion(folder, address, monkeypatch)
    data = tmp_path / "a" / "b"
    download("fashion_mnist", data, progress=False)
    assert {p.name: p.read_bytes() for p in data.iterdir()} == {p.name: p.read_bytes() for p in files}
    assert len(open_sets(load_recipe("digits", ["data.name=fashion_mnist"]), data).train) == 64
    for file in files[1:]:
        file.unlink()
    (data / files[0].name).unlink()
    download("fashion_mnist", data, progress=False)
    assert (data / files[0].name).read_bytes() == files[0].read_bytes(), "the one that was missing, and no other"


def test_a_file_that_is_another_or_missing_leaves_nothing(server, tmp_path, monkeypatch):
    folder, address = server
    first, *_ = fashion(folder, address, monkeypatch)
    first.write_bytes(first.read_bytes()[:-1])
    with pytest.raises(ValueError, match="not what was published: its MD5 is"):
        download("fashion_mnist", tmp_path / "data", progress=False)
    first.unlink()
    with pytest.raises(ValueError, match=rf"{first.name} cannot be had: .*404.*yourself"):
        download("fashion_mnist", tmp_path / "data", progress=False)
    assert [*(tmp_path / "data").iterdir()] == []


def test_an_archive_is_unpacked_as_plain_files_and_nothing_else_of_it(server, tmp_path, monkeypatch):
    folder, address = server
    written = tmp_path / "written"
    written.mkdir()
    write_cifar(written)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for file in written.rglob("*"):
            archive.add(file, f"../cifar/{file.name}", recursive=False)
        archive.addfile(tarfile.TarInfo("../../escaped.txt"))
        link = tarfile.TarInfo("cifar/test_batch.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    (folder / "cifar.tar.gz").write_bytes(packed.getvalue())
    members = SOURCES["cifar10"][0].members
    source = Source(f"{address}/cifar.tar.gz", md5(packed.getvalue()), members)
    monkeypatch.setattr(downloads, "SOURCES", {"cifar10": (source,)})
    data = tmp_path / "data"
    download("cifar10", data, progress=False)
    assert {p.name for p in data.iterdir()} == set(members)
    assert all(p.is_file() and not p.is_symlink() for p in data.iterdir())
    assert len(open_sets(load_recipe("digits", ["data.name=cifar10"]), data).held_out) > 0


def test_only_what_is_published_freely_is_downloaded(tmp_path):
    with pytest.raises(ValueError, match="the files of folder are not downloaded; known: fashion_mnist, cifar10"):
        download("folder", tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot be a folder of images"):
        download("cifar10", tmp_path / "file")


def test_the_shell_downloads_before_it_trains(server, tmp_path, monkeypatch, capsys):
    folder, address = server
    fashion(folder, address, monkeypatch)
    data = tmp_path / "data"
    said = ["train", "digits", "--device", "cpu", "--data", str(data), "--download", "--dry-run"]
    sets = [word for change in ("data.name=fashion_mnist", "data.size=28") for word in ("--set", change)]
    assert main([*said, *sets]) == 0
    assert gzip.decompress((data / "t10k-labels-idx1-ubyte.gz").read_bytes())
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([*said, *sets]) == 2
    assert "one process" in capsys.readouterr().err
    monkeypatch.delenv("WORLD_SIZE")
    assert main(["train", "digits", "--download"]) == 2
    assert "--data" in capsys.readouterr().err
