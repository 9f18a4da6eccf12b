"""The commands of ``python -m attention_notes``, as somebody types them."""

import dataclasses
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from attention_notes.__main__ import _names, _sides, _write, main, run
from attention_notes.images import Preprocessing
from attention_notes.images.classify import predict
from attention_notes.papers.vit import vit
from attention_notes.papers.vit.model import NAMED
from attention_notes.registry import MODELS
from attention_notes.weights import checkpoints as listing
from attention_notes.weights import to_timm
from attention_notes.weights.checkpoints import COLOURS, checkpoints, lists

TINY = "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.effect_mandelbrot((300, 200), (-2, -1, 1, 1), 20).convert("RGB").save(path)
    return path


@pytest.fixture
def retriever(monkeypatch, tmp_path):
    """A small model in place of the published one, which says that everything is a golden retriever."""
    monkeypatch.setitem(NAMED, "Ti/16", {**NAMED["Ti/16"], "depth": 3})
    model = vit("Ti/16")
    nn.init.zeros_(model.head.weight)
    with torch.no_grad():
        model.head.bias[207] = 10.0
    save_file(to_timm(model), tmp_path / "model.safetensors")
    monkeypatch.setitem(checkpoints(), TINY, dataclasses.replace(checkpoints()[TINY], sha256=None))
    monkeypatch.setattr("attention_notes.weights.pretrained.fetch", lambda checkpoint: tmp_path / "model.safetensors")


def test_the_list_shows_models_and_their_weights(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "vit:B/16" in lines
    assert f"    {TINY}" in lines
    assert lines[-1].endswith(f"{len(checkpoints())} published weights")
    assert main(["list", "pvt_v2_b2_li"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "pvt:pvt_v2_b2_li"


def test_a_model_is_shown_with_its_cost_and_its_weights(capsys):
    assert main(["show", "vit:Ti/16"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("vit:Ti/16: 5,717,416 parameters, 1.26 GMACs at 224 x 224") or "1.25 GMACs" in out
    assert TINY in out
    assert "timm; transformers" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "vit:B/61"], "did you mean vit:B/16"),
        (["list", "nothing-like-it"], "no model and no weights with 'nothing-like-it'"),
        (["verify", "swin_x"], "unknown model 'swin_x'; did you mean swin:swin_"),
        (
            ["show", "B/16"],
            "'B/16' may be augreg:B/16 or deit:B/16 or patchification:B/16 or scaling_vit:B/16 or vit:B/16: say which",
        ),
        (["show", "vit:b/16"], "unknown model 'vit:b/16'; did you mean vit:B/16?"),
        (["predict", "nowhere.png", "--model", "nothing"], "nowhere.png"),
        (["predict", "nowhere.png"], "nowhere.png"),
        (["attend", "nowhere.png"], "nowhere.png"),
        (["predict", "."], "no pictures in .: their names end in "),
        (["attend", "a.png", "--out", "nowhere/a.png"], "there is no folder nowhere"),
        (["attend", "a.png", "--out", "."], ". is a folder"),
        (["attend", "a.png", "--out", "a.docx"], "no drawing is written as .docx; known: "),
    ],
)
def test_a_mistake_is_one_line_and_the_status_is_2(capsys, monkeypatch, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert words in said.err
    assert len(said.err.splitlines()) == 1


def test_the_list_is_that_of_the_registry_and_of_the_weights():
    """It is made from the papers' files."""
    expected = {name: [] for name in MODELS}
    for checkpoint in checkpoints().values():
        expected[f"{checkpoint.key}:{checkpoint.variant}"].append(checkpoint.repo)
    assert _names() == expected
    assert [*_names()] == [*MODELS]


@pytest.mark.parametrize("command", ["list", "list --json", "--help", "--version"])
def test_commands_that_need_no_torch_do_not_load_it(command):
    """To load it takes seconds."""
    program = (
        "import sys; from attention_notes.__main__ import main\n"
        f"try: main({command.split()!r})\n"
        "except SystemExit: pass\n"
        "sys.exit(len({'torch', 'numpy', 'PIL'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", program], stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_the_list_is_json_too(capsys):
    assert main(["list", "vit:Ti", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [*found] == ["scaling_vit:Ti/16", "vit:Ti/16"]
    assert TINY in found["vit:Ti/16"]


def test_a_variant_that_only_one_family_has_needs_no_family(capsys):
    assert main(["show", "swin_t"]) == 0
    assert capsys.readouterr().out.startswith("swin:swin_t: 28,288,354 parameters")


def test_a_family_without_published_weights_says_so(capsys, picture):
    for model in (name for name, one in MODELS.items() if one.key not in {*lists(), "augreg"}):
        for command in ("predict", "attend"):
            assert main([command, str(picture), "--model", model]) == 2
            said = capsys.readouterr().err
            assert "nobody has published weights of" in said or (MODELS[model].size is None and "no pict" in said)


def test_weights_that_another_papers_list_has_are_asked_for(capsys, picture):
    assert main(["predict", str(picture), "--model", "augreg:B/16"]) != 0
    assert "timm/vit_base_patch16_224.augreg_in21k_ft_in1k" in capsys.readouterr().err, (
        "not to be had without a network"
    )


@pytest.fixture
def album(picture, tmp_path):
    folder = tmp_path / "album"
    (folder / "more.png").mkdir(parents=True)
    for name in ("b.png", "a.PNG", "c d.jpeg", ".hidden.png"):
        shutil.copy(picture, folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_the_pictures_of_folders_are_named_and_one_that_cannot_be_read_is_told(capsys, picture, retriever, album):
    asked = ["predict", str(album), str(picture), "--model", "vit:Ti/16", "--json"]
    assert main(asked) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = ("a.PNG", "b.png", "c d.jpeg")
    assert [row["image"] for row in rows] == [*(str(album / name) for name in names), str(picture)]
    for row in rows:
        first = row["classes"][0]
        assert (first["name"], first["index"], len(row["classes"])) == ("golden retriever", 207, 5)
        assert first["probability"] == pytest.approx(0.9566, abs=1e-3)
    (album / "b.png").write_bytes(b"not a picture")
    assert main(asked) == 1
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 3
    assert said.err.startswith(f"error: {album / 'b.png'} ")
    assert len(said.err.splitlines()) == 1
    assert main(["predict", str(album), "--model", "vit:Ti/16", "--top", "1"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        line for name in ("a.PNG", "c d.jpeg") for line in (str(album / name), " 95.66%  golden retriever")
    ]


def test_what_is_wrong_with_the_options_is_not_told_of_every_picture(capsys, retriever, album):
    assert main(["predict", str(album), "--model", "vit:Ti/16", "--top", "0"]) == 2
    assert capsys.readouterr().err == "error: top=0: ask for one class or more\n"


def test_a_bar_tells_how_far_where_somebody_watches(capsys, monkeypatch, retriever, album):
    asked = ["predict", str(album), "--model", "vit:Ti/16", "--top", "1"]
    assert main(asked) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    assert main(asked) == 0
    said = capsys.readouterr()
    shown = said.err.split("\r")
    assert [line[:31] for line in shown if line.startswith("[")] == [
        "[....................] 0 of 3  ",
        "[######..............] 1 of 3  ",
        "[#############.......] 2 of 3  ",
    ]
    assert {len(line) for line in shown if line} == {39}  # one less than a line of the terminal, or it would wrap
    assert shown[-2].strip() == shown[-1] == "", "nothing of it stays"
    assert "[" not in said.out
    assert main([*asked[:1], str(album / "a.PNG"), *asked[2:]]) == 0
    assert capsys.readouterr().err == "", "one picture needs no bar"


HOW = ["--colours", "imagenet", "--interpolation", "bicubic", "--crop", "0.875"]


@pytest.fixture
def own(monkeypatch, tmp_path):
    """Weights of one's own: trained on pictures of 64 x 96 pixels, wrapped, in the checkpoint of a training."""
    monkeypatch.setitem(NAMED, "Ti/16", {**NAMED["Ti/16"], "depth": 2})
    model = vit("Ti/16", num_classes=3, image_size=(64, 96))
    with torch.no_grad():
        model.head.bias[1] = 50.0
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"epoch": 1, "model_state_dict": state}, tmp_path / "mine.pt")
    return ["--model", "vit:Ti/16", "--weights", str(tmp_path / "mine.pt"), "--size", "64x96"]


def test_a_file_of_weights_is_shown_pictures_as_the_shell_says(capsys, picture, own, tmp_path):
    asked = ["predict", str(picture), "--top", "1", *own]
    assert main(asked) == 2
    assert "were prepared: say it with --colours, --interpolation, --crop" in capsys.readouterr().err
    assert main([*asked, *HOW[:4]]) == 2
    assert "were prepared: say it with --crop\n" in capsys.readouterr().err
    asked += HOW
    assert main(asked) == 0
    assert capsys.readouterr().out == "100.00%  class 1\n"
    (tmp_path / "names.txt").write_text("\ufeffcat\nBerner Sennenhünd\r\ncow\n\n", encoding="utf-8")
    assert main([*asked, "--names", str(tmp_path / "names.txt"), "--top", "3"]) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first == "100.00%  Berner Sennenhünd"
    assert sorted(others) == ["  0.00%  cat", "  0.00%  cow"]
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    assert main([*asked, "--names", str(tmp_path / "names.txt")]) == 2
    assert "names.txt has 2 names, but the weights are of 3 classes" in capsys.readouterr().err
    (tmp_path / "names.txt").write_bytes(b"\xff\xfe\x00")
    assert main([*asked, "--names", str(tmp_path / "names.txt")]) == 2
    assert "names.txt is not in UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("crop", "interpolation", "colours"), [("none", "bilinear", "inception"), ("0.5", "bicubic", "imagenet")]
)
def test_the_options_are_those_of_the_preprocessing(capsys, picture, own, crop, interpolation, colours):
    how = ["--crop", crop, "--interpolation", interpolation, "--colours", colours]
    assert main(["predict", str(picture), *own, *how, "--json"]) == 0
    classes = json.loads(capsys.readouterr().out)["classes"]
    model = vit("Ti/16", pretrained=Path(own[3]), image_size=(64, 96))
    preprocessing = Preprocessing(
        **COLOURS[colours], interpolation=interpolation, crop=None if crop == "none" else float(crop)
    )
    expected = predict(model, picture, preprocessing=preprocessing, names=["a", "b", "c"])
    assert [(c["index"], c["probability"]) for c in classes] == [(p.index, p.probability) for p in expected]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--size", "64x64"], "its positions are of 24 patches, but 64 x 64 pixels make 4 x 4: give as image_size"),
        (["--size", "224"], "(image_size is --size here)"),
        (["--model", "swin_t"], "it holds the weights of another model"),
        (["--model", "resnet18"], "mine.pt does not fit resnet 'resnet18'"),
        (["--weights", "nothing.pt"], "there is no file nothing.pt"),
        (["--weights", "."], ". is a folder: give the file of weights in it"),
        (["--window", "7"], "vit:Ti/16 takes no --window"),
        (["--crop", "most"], "--crop most is neither a number, such as 0.875, nor none"),
        (["--crop", "7"], "crop=7.0 is no share"),
    ],
)
def test_what_does_not_fit_a_file_is_told(capsys, picture, own, options, words):
    assert main(["predict", str(picture), *own, *HOW, *options]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert len(said.splitlines()) == 1


def test_a_size_is_one_number_or_two(capsys):
    assert [_sides(text) for text in ("256", "192x256", "192X256")] == [(256, 256), (192, 256), (192, 256)]
    for wrong in ("large", "1x2x3", "", "1.5"):
        with pytest.raises(SystemExit) as ended:
            main(["predict", "a.png", "--size", wrong])
        assert ended.value.code == 2
        assert "is no size such as 256 or 192x256" in capsys.readouterr().err


SMALL = [
    ("swin:swin_t", {"depths": (1, 1, 1, 1)}, {"image_size": 64, "window": 2}, ["--size", "64"]),
    ("swin:swinv2_t", {"depths": (1, 1, 1, 1)}, {"image_size": 64, "window": 4}, ["--size", "64", "--window", "4"]),
    ("pvt:pvt_tiny", {"depths": (1, 1, 1, 1)}, {"image_size": 96}, ["--size", "96"]),
    ("pvt:pvt_v2_b0", {"depths": (1, 1, 1, 1)}, {}, ["--size", "70"]),
    ("deit:Ti/16 distilled", {}, {"image_size": 48, "depth": 12}, ["--size", "48"]),
    ("resnet:resnet18", {}, {}, ["--size", "50"]),
    ("cbam:cbam_resnet18", {}, {}, ["--size", "50x64"]),
]


@pytest.mark.parametrize(("name", "row", "options", "size"), SMALL, ids=[case[0] for case in SMALL])
def test_files_of_every_family_are_taken(capsys, monkeypatch, picture, tmp_path, name, row, options, size):
    one = MODELS[name]
    if row:
        monkeypatch.setitem(one.family.variants, one.variant, {**one.family.variants[one.variant], **row})
    model = one.build(num_classes=3, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    save_file(model.state_dict(), tmp_path / "mine.safetensors")
    asked = ["predict", str(picture), "--model", name, "--weights", str(tmp_path / "mine.safetensors"), *HOW]
    assert main([*asked, *size, "--json"]) == 0
    classes = json.loads(capsys.readouterr().out)["classes"]
    preprocessing = Preprocessing(**COLOURS["imagenet"], interpolation="bicubic", crop=0.875)
    expected = predict(model, picture, preprocessing=preprocessing, names=["a", "b", "c"], size=_sides(size[1]))
    assert [(c["index"], c["probability"]) for c in classes] == [(p.index, p.probability) for p in expected]
    if name.startswith(("pvt", "resnet", "cbam")):
        assert main(asked) == 2
        assert "takes pictures of any size: say with --size which" in capsys.readouterr().err


def test_published_weights_say_themselves_how_they_were_trained(capsys, picture, monkeypatch):
    monkeypatch.setattr("attention_notes.weights.pretrained.fetch", None)  # nothing is fetched
    for options in (["--crop", "0.9"], HOW, ["--names", "names.txt", "--window", "7"]):
        assert main(["predict", str(picture), "--model", "vit:Ti/16", *options]) == 2
        assert f"leave out {options[0]}" in capsys.readouterr().err


def test_published_weights_are_moved_to_another_size(capsys, picture, retriever):
    assert main(["predict", str(picture), "--model", "vit:Ti/16", "--size", "64x96", "--top", "1"]) == 0
    assert capsys.readouterr().out == " 95.66%  golden retriever\n"


def test_a_picture_is_named(capsys, picture, retriever):
    assert main(["predict", str(picture), "--model", "vit:Ti/16", "--top", "2"]) == 0
    first, _ = capsys.readouterr().out.splitlines()
    assert first.split("  ")[-1] == "golden retriever"
    assert first.strip().startswith("95.")  # e^10 / (e^10 + 999)


def test_attention_is_drawn_over_a_picture(capsys, picture, retriever, tmp_path):
    asked = ["attend", str(picture), "--model", "vit:Ti/16", "--out"]
    for at in ([], ["--at", "100", "137"]):
        out = tmp_path / f"seen{len(at)}.png"
        assert main([*asked, str(out), *at]) == 0
        assert capsys.readouterr().out == f"{out}\n"
        with Image.open(out) as drawn:
            assert len(drawn.convert("RGB").getcolors(1 << 20)) > 300
    assert not list(tmp_path.glob(".*"))
    drawn = out.read_bytes()
    assert main([*asked, str(out), "--at", "500", "37"]) == 2
    assert "(500, 37) is no pixel of an image of 200 x 300" in capsys.readouterr().err
    assert main([*asked, str(out), "--at", "100", "3"]) == 2
    assert "(100, 3) is cut away before the model sees the image: it sees rows" in capsys.readouterr().err
    assert out.read_bytes() == drawn


def test_the_ring_stands_at_the_pixel_of_the_photograph(monkeypatch, picture, retriever, tmp_path):
    """Of 200 x 300 pixels the model sees the middle: 224 of 248 x 372 after scaling by 1.24."""
    asked = []
    monkeypatch.setattr(
        "attention_notes.chapters.plots.attention.attention_over",
        lambda model, image, at: asked.append(at) or plt.figure().add_subplot(),
    )
    drawn = ["attend", str(picture), "--model", "vit:Ti/16", "--out", str(tmp_path / "a.png"), "--at"]
    assert main([*drawn, "100", "150"]) == 0
    assert main([*drawn, "40", "100"]) == 0
    plt.close("all")
    assert asked == [(112, 112), (int(40.5 * 1.24) - 12, int(100.5 * 1.24) - 74)]


def test_a_drawing_never_takes_the_place_of_a_link(picture, retriever, tmp_path):
    (tmp_path / "shelf").mkdir()
    link = tmp_path / "seen.png"
    link.symlink_to(tmp_path / "shelf/real.png")
    asked = ["attend", str(picture), "--model", "vit:Ti/16", "--out"]
    for _ in range(2):  # what it points to is there the second time
        assert main([*asked, str(link)]) == 0
        assert link.is_symlink()
        assert (tmp_path / "shelf/real.png").read_bytes()[:4] == b"\x89PNG"
    assert [path.name for path in (tmp_path / "shelf").iterdir()] == ["real.png"]
    link.unlink()
    link.symlink_to(link)
    assert main([*asked, str(link)]) == 2
    assert link.is_symlink()


def test_a_pipe_and_a_device_are_written_into(tmp_path):
    pipe, (reader, terminal) = tmp_path / "pipe.png", os.openpty()
    os.mkfifo(pipe)
    for out, end in ((pipe, os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)), (Path(os.ttyname(terminal)), reader)):
        assert not _write(out, b"PNG"), "there is no file to name"
        assert os.read(end, 9) == b"PNG"
        os.close(end)
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe.png"]
    os.close(terminal)
    assert _write(tmp_path / "a.png", b"PNG")
    with pytest.raises(OSError, match=r"a\.png/b cannot be written: Not a directory"):
        _write(tmp_path / "a.png/b", b"PNG")


def test_verify_says_what_is_off_and_its_status_is_1(capsys, monkeypatch):
    assert main(["verify", "vit:Ti/16"]) == 0
    assert "1 models, 0 off" in capsys.readouterr().out
    monkeypatch.setitem(NAMED, "Ti/16", {**NAMED["Ti/16"], "hidden": 769})
    assert main(["verify", "vit:Ti/16"]) == 1
    assert "OFF: parameters" in capsys.readouterr().out


def test_the_list_of_weights_can_be_held_against_the_hub(capsys, monkeypatch):
    two = dict(list(checkpoints().items())[:2])
    monkeypatch.setattr(listing, "checkpoints", lambda: two)
    found = {repo: ([], {"revision": "abc"}) for repo in two}
    monkeypatch.setattr("attention_notes.registry.checking.problems", lambda checkpoint: found[checkpoint.repo])
    assert main(["verify", "--weights"]) == 0
    assert "2 published weights, 0 off" in capsys.readouterr().out
    found[next(iter(two))] = (["the checksum is another"], {})
    assert main(["verify", "--weights"]) == 1
    assert "✗" in capsys.readouterr().out


def test_it_is_a_module_that_runs():
    done = subprocess.run(
        [sys.executable, "-m", "attention_notes", "list", "vit:B/8"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("vit:B/8\n")
    assert done.stderr == ""


def test_it_is_a_command_of_its_own(capsys):
    """What pip makes of the project's script."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, function = project["scripts"]["attention-notes"].split(":")
    assert getattr(import_module(module), function) is run
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"attention-notes {project['version']}\n"


def shell(*arguments, **options):
    """A process that runs a command; its streams are bytes."""
    words = [sys.executable, "-m", "attention_notes", *arguments]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


@pytest.mark.parametrize("unbuffered", ["1", ""])
@pytest.mark.parametrize("pattern", ["", "vit:Ti"])  # more than a buffer holds, and less
def test_who_has_read_enough_hears_no_more(unbuffered, pattern):
    """Nobody reads any more when the first line is written."""
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "attention_notes", "list", pattern]
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, env=env, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_is_one_line_and_closed_streams_are_none():
    full = subprocess.run(
        f"{sys.executable} -m attention_notes list vit:Ti > /dev/full", shell=True, stderr=subprocess.PIPE, check=False
    )
    assert full.returncode == 2
    assert full.stderr.startswith(b"error: [Errno 28]")
    assert len(full.stderr.splitlines()) == 1
    for command, status in (("list >&-", 0), ("list no-such-model 2>&-", 2)):
        words = f"{sys.executable} -m attention_notes {command}"
        done = subprocess.run(words, shell=True, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (status, b"")
        assert not status or done.stdout == b""


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("utf-8", b"\xff \xc3\xa9.png"), ("ascii", b"\\udcff \\xe9.png"), ("latin-1", b"\\udcff \xe9.png")],
)
def test_names_that_cannot_be_encoded_are_shown_all_the_same(encoding, shown, picture, own, tmp_path, monkeypatch):
    """On a terminal of UTF-8 a name of any bytes comes out as it is."""
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff \xc3\xa9.png")
    shutil.copy(picture, odd)
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    asked = ["predict", odd, str(picture), "nowhere \udcff.png", *own, *HOW, "--top", "1"]
    monkeypatch.setattr(sys, "argv", ["attention-notes", *asked])
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 1
    lines = sys.stdout.buffer.getvalue().splitlines()
    assert lines[0].endswith(shown)
    assert len(lines) == 4
    sys.stderr.flush()
    assert sys.stderr.buffer.getvalue().startswith(b"error: there is no file nowhere ")


def test_ctrl_c_is_one_line(capsys, monkeypatch):
    def pressed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("attention_notes.__main__._names", pressed)
    assert main(["list"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.fixture
def interruptible():
    """Who runs tests in the background of a shell has Ctrl-C ignored, as have the processes that they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("made", [ImportError, RuntimeError])
def test_ctrl_c_is_one_line_whatever_is_made_of_it(capsys, monkeypatch, interruptible, made):
    """A library that is interrupted while it is loaded may raise anything."""

    def loading(*_):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise made("cannot load module more than once per process") from None

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr("attention_notes.__main__._names", loading)
    monkeypatch.setattr(sys, "argv", ["attention-notes", "list"])
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 130
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux tells what a process has loaded")
def test_ctrl_c_while_torch_is_loaded_is_one_line(interruptible):
    with shell("verify", "vit:Ti/16", "vit:H/14") as verifying:
        loaded = Path(f"/proc/{verifying.pid}/maps")
        while verifying.poll() is None and "torch" not in loaded.read_text():
            time.sleep(0.01)
        verifying.send_signal(signal.SIGINT)
        assert verifying.stderr.read() == b"interrupted\n"
        assert verifying.stdout.read() == b""
    assert verifying.returncode == 130
