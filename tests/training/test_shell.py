"""``attention-notes train`` from a shell."""

import pytest

from attention_notes.__main__ import main
from attention_notes.training import names
from tests.training.starting import SMALL, trained

CHANGED = [word for change in (*SMALL, "optimise.epochs=0.1") for word in ("--set", change)]


def test_the_list_has_every_recipe_with_its_command(capsys):
    assert main(["train", "--list"]) == 0
    told = capsys.readouterr().out
    assert [name for name in names() if f"\n{name}\n" not in f"\n{told}"] == []
    assert told.count("attention_notes train") + told.count("attention-notes train") == len(names())


def test_a_training_says_where_it_is_and_what_it_came_to(tmp_path, capsys):
    assert main(["train", "--device", "cpu", "--out", str(tmp_path / "a" / "b"), *CHANGED]) == 0
    assert f"{tmp_path / 'a' / 'b'}: 4 steps, " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nothing"], "no recipe 'nothing'"),
        (["digits", "--set", "optimise.lr"], "write name=value"),
        (["digits", "--per-process", "0"], "per_process=0 must be 1 or more"),
        (["digits", "--workers", "-1"], "workers=-1 must be 0 or more"),
        (["swin_t"], "give --data a folder that has train/ and val/"),
        (["digits", "--set", "data.name=fashion_mnist"], "fashion_mnist is not in the package: give --data"),
        (["digits", "--set", "data.size=9"], "an image of 9 x 9 cannot be cut into patches of 2 x 2"),
        (["digits", "--set", "optimise.batch=5000"], "there are only 1352 images"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_first_step(tmp_path, capsys, words, told, unchecked):
    assert main(["train", *words, "--device", "cpu", "--out", str(tmp_path)]) == 2
    assert told in capsys.readouterr().err


def test_a_file_is_no_folder_for_a_run(tmp_path, capsys):
    (tmp_path / "taken").write_text("")
    assert main(["train", "--device", "cpu", "--out", str(tmp_path / "taken"), *CHANGED]) == 2
    assert "cannot be the folder of a run" in capsys.readouterr().err


def test_a_dry_run_on_two_processes_takes_all_that_a_papers_recipe_names(tmp_path):
    """That of DeiT III, in float32 and small: LAMB, three augmentations, repeats, one yes or no a class."""
    changes = ("options={drop_path: 0.05, depth: 2, dim: 32, heads: 2}", "data.size=32")
    done = trained(tmp_path, "--dry-run", recipe="deit_iii_s", changes=changes, processes=2)
    assert done.returncode == 0, done.stderr
    assert "three small steps taken, one of them from a checkpoint" in done.stdout
    assert [*tmp_path.iterdir()] == []
