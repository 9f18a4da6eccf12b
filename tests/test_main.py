"""The commands of ``python -m attention_notes``, as somebody types them."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from attention_notes.__main__ import _names, main
from attention_notes.papers.vit import VARIANTS, vit
from attention_notes.registry import MODELS
from attention_notes.weights import checkpoints as listing
from attention_notes.weights import to_timm
from attention_notes.weights.checkpoints import checkpoints, lists

TINY = "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.effect_mandelbrot((300, 200), (-2, -1, 1, 1), 20).convert("RGB").save(path)
    return path


@pytest.fixture
def retriever(monkeypatch, tmp_path):
    """A small model in place of the published one, which says that everything is a golden retriever."""
    monkeypatch.setitem(VARIANTS, "Ti/16", {**VARIANTS["Ti/16"], "depth": 3})
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
        (["show", "B/16"], "'B/16' may be vit:B/16 or deit:B/16: say which"),
        (["predict", "nowhere.png", "--model", "nothing"], "nowhere.png"),
        (["predict", "nowhere.png"], "nowhere.png"),
        (["attend", "nowhere.png"], "nowhere.png"),
    ],
)
def test_a_mistake_is_one_line_and_the_status_is_2(capsys, arguments, words):
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert words in said.err
    assert len(said.err.splitlines()) == 1


def test_the_quick_list_is_the_list_of_the_registry():
    """It is made from the papers' files, without torch."""
    assert [*_names()] == [*MODELS]
    assert [repo for repos in _names().values() for repo in repos] == [*checkpoints()]
    quick = "import sys; from attention_notes.__main__ import main; main(['list']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", quick], stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_a_variant_that_only_one_family_has_needs_no_family(capsys):
    assert main(["show", "swin_t"]) == 0
    assert capsys.readouterr().out.startswith("swin:swin_t: 28,288,354 parameters")


def test_a_family_without_published_weights_says_so(capsys, picture):
    for model in (name for name, one in MODELS.items() if one.key not in lists()):
        for command in ("predict", "attend"):
            assert main([command, str(picture), "--model", model]) == 2
            assert "nobody has published weights of" in capsys.readouterr().err


def test_folders_and_many_pictures_are_named_and_what_cannot_be_read_is_told(capsys, picture, retriever, tmp_path):
    folder = tmp_path / "album"
    folder.mkdir()
    for name in ("b.png", "a.PNG"):
        shutil.copy(picture, folder / name)
    (folder / "notes.txt").write_text("no picture")
    asked = ["predict", str(folder), str(picture), "--model", "vit:Ti/16", "--json"]
    assert main(asked) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["image"] for row in rows] == [str(folder / "a.PNG"), str(folder / "b.png"), str(picture)]
    assert {(row["classes"][0]["name"], row["classes"][0]["index"]) for row in rows} == {("golden retriever", 207)}
    (folder / "b.png").write_bytes(b"not a picture")
    assert main(asked) == 1
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2
    assert "b.png" in said.err
    assert main(["predict", str(tmp_path / "album"), "--model", "vit:Ti/16", "--top", "1"]) == 1
    assert capsys.readouterr().out.splitlines()[0] == str(folder / "a.PNG")


def test_a_file_of_weights_is_shown_pictures_as_the_shell_says(capsys, picture, tmp_path):
    torch.manual_seed(0)
    model = vit("Ti/16", num_classes=3)
    with torch.no_grad():
        model.head.bias[1] = 50.0
    save_file(model.state_dict(), tmp_path / "mine.safetensors")
    asked = [
        "predict",
        str(picture),
        "--model",
        "vit:Ti/16",
        "--weights",
        str(tmp_path / "mine.safetensors"),
        "--top",
        "1",
    ]
    assert main(asked) == 2
    assert "give --colours, --interpolation, --crop" in capsys.readouterr().err
    asked += ["--colours", "imagenet", "--interpolation", "bicubic", "--crop", "0.875"]
    assert main(asked) == 0
    assert capsys.readouterr().out.split() == ["100.00%", "1"]
    (tmp_path / "names.txt").write_text("cat\ndog\ncow\n")
    assert main([*asked, "--names", str(tmp_path / "names.txt")]) == 0
    assert capsys.readouterr().out.split() == ["100.00%", "dog"]
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    assert main([*asked, "--names", str(tmp_path / "names.txt")]) == 2
    assert "3 logits, but there are 2 names" in capsys.readouterr().err


def test_a_published_file_says_itself_how_it_was_trained(capsys, picture, retriever):
    assert main(["predict", str(picture), "--model", "vit:Ti/16", "--crop", "0.9"]) == 2
    assert "leave out --crop" in capsys.readouterr().err


def test_a_picture_is_named(capsys, picture, retriever):
    assert main(["predict", str(picture), "--model", "vit:Ti/16", "--top", "2"]) == 0
    first, _ = capsys.readouterr().out.splitlines()
    assert first.split("  ")[-1] == "golden retriever"
    assert first.strip().startswith("95.")  # e^10 / (e^10 + 999)


def test_attention_is_drawn_over_a_picture(capsys, picture, retriever, tmp_path):
    for at in ([], ["--at", "100", "37"]):
        out = tmp_path / f"seen{len(at)}.png"
        assert main(["attend", str(picture), "--model", "vit:Ti/16", "--out", str(out), *at]) == 0
        with Image.open(out) as drawn:
            assert len(drawn.convert("RGB").getcolors(1 << 20)) > 300
    assert not list(tmp_path.glob(".*"))
    assert main(["attend", str(picture), "--model", "vit:Ti/16", "--at", "500", "37", "--out", str(out)]) == 2
    assert "no pixel of an image of 200 x 300" in capsys.readouterr().err
    assert main(["attend", str(picture), "--model", "vit:Ti/16", "--at", "100", "3", "--out", str(out)]) == 2
    assert "cut away" in capsys.readouterr().err
    assert main(["attend", str(picture), "--model", "vit:Ti/16", "--out", str(tmp_path / "seen.docx")]) == 2
    assert not list(tmp_path.glob(".*"))
    assert not (tmp_path / "seen.docx").exists()


def test_a_drawing_goes_where_a_link_points_and_never_in_its_place(picture, retriever, tmp_path):
    (tmp_path / "shelf").mkdir()
    link = tmp_path / "seen.png"
    link.symlink_to(tmp_path / "shelf/real.png")
    asked = ["attend", str(picture), "--model", "vit:Ti/16", "--out"]
    assert main([*asked, str(link)]) == 0
    assert link.is_symlink()
    assert (tmp_path / "shelf/real.png").read_bytes()[:4] == b"\x89PNG"
    assert main([*asked, "/dev/null"]) == 0
    assert Path("/dev/null").is_char_device()
    assert main([*asked, str(tmp_path / "shelf")]) == 2


def test_verify_says_what_is_off_and_its_status_is_1(capsys, monkeypatch):
    assert main(["verify", "vit:Ti/16"]) == 0
    assert "1 models, 0 off" in capsys.readouterr().out
    monkeypatch.setitem(VARIANTS, "Ti/16", {**VARIANTS["Ti/16"], "hidden": 769})
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
        [sys.executable, "-m", "attention_notes", "list", "vit:Ti"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("vit:Ti/16\n")
    assert done.stderr == ""
    version = subprocess.run([sys.executable, "-m", "attention_notes", "--version"], capture_output=True, text=True)
    assert version.stdout.startswith("attention-notes ")


def test_who_has_read_enough_hears_no_more():
    words = [sys.executable, "-m", "attention_notes", "list"]
    lines = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    lines.stdout.readline()
    lines.stdout.close()
    assert lines.stderr.read() == b""
    assert lines.wait() == 0


def test_ctrl_c_is_one_word(capsys, monkeypatch):
    def pressed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("attention_notes.__main__._list", pressed)
    assert main(["list"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
