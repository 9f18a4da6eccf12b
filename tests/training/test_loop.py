"""The loop: what comes out depends on the recipe alone, however often it was ended and however it is run."""

import os
import random
import signal
import subprocess
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from attention_notes.papers.resnet import resnet
from attention_notes.training import Running, load_recipe, train
from attention_notes.training import loop as looped
from attention_notes.training.checkpoints import path_of, read, steps_in
from attention_notes.training.loop import _parts, build, dry_run, feed
from attention_notes.training.objective import Criterion, teacher_of
from attention_notes.training.optimise import Average
from tests.training.starting import ROOT, SMALL, command, environment, losses, rows, trained

QUIET = Running(device="cpu", quiet=True, log_every=5)
MORE = (
    "optimise.ema=0.9",
    "augment={flip: 0.5, mixup: 0.8, cutmix: 1.0}",
    "options.drop_path=0.2",
    "optimise.clip=0.5",
)
KILLS = int(os.environ.get("KILLS", "2"))


def recipe(*changes):
    return load_recipe("digits", [*SMALL, *changes])


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def weights(out):
    return load_file(out / "weights.safetensors")


def test_it_learns_and_leaves_what_it_promises(tmp_path):
    found = train(recipe("optimise.epochs=4", "optimise.lr=3e-3"), out=tmp_path, running=QUIET)
    assert found.top1 > 0.5 > 0.1 == 1 / 10
    assert {"checkpoints", "log.jsonl", "curves.svg", "weights.safetensors", "average.safetensors"} <= {
        path.name for path in tmp_path.iterdir()
    }
    assert [row["step"] for row in rows(tmp_path)] == sorted(row["step"] for row in rows(tmp_path))
    assert losses(tmp_path)[-1] < losses(tmp_path)[0]
    model = build(recipe(), classes=10)
    model.load_state_dict(weights(tmp_path))


def test_ones_own_model_is_trained_in_place_of_the_recipes(tmp_path):
    narrow = partial(resnet, "resnet18", depths=(1,), dilations=(1,), width=8, channels=1)
    first, again = (
        train(recipe(), out=tmp_path / name, running=replace(QUIET, last_step=end), model=narrow)
        for name, end in (("whole", None), ("parts", 10))
    )
    assert again.steps == 10
    train(recipe(), out=tmp_path / "parts", running=QUIET, model=narrow)
    assert first.steps > 10
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    narrow(num_classes=10).load_state_dict(weights(tmp_path / "whole"))


def test_training_leaves_the_callers_random_numbers_alone(tmp_path, unchecked):
    def drawn():
        return torch.rand(()).item(), random.random(), np.random.rand()  # noqa: NPY002

    for generator in (torch.manual_seed, random.seed, np.random.seed):
        generator(5)
    expected = drawn()
    for generator in (torch.manual_seed, random.seed, np.random.seed):
        generator(5)
    train(recipe("optimise.epochs=0.1", "augment.flip=0.5"), out=tmp_path, running=QUIET)
    assert drawn() == expected


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lamb"])
def test_stopped_and_resumed_it_ends_with_the_same_bits(tmp_path, optimizer):
    """Also with dropped paths, mixed images, an average, and steps of two parts; the log is the same, too."""
    made = recipe(*MORE, f"optimise.optimizer={optimizer}")
    how = replace(QUIET, per_process=16, save_every=7)
    train(made, out=tmp_path / "whole", running=how)
    for last in (3, 7, 19, None):  # each end is also a checkpoint
        train(made, out=tmp_path / "parts", running=replace(how, last_step=last))
    for name in ("weights", "average"):
        a, b = (load_file(tmp_path / out / f"{name}.safetensors") for out in ("whole", "parts"))
        assert same(a, b)
    assert not same(a, weights(tmp_path / "whole"))
    ends = [(row["step"], row.get("top1")) for row in rows(tmp_path / "whole")][-1]
    assert ends == [(row["step"], row.get("top1")) for row in rows(tmp_path / "parts")][-1]


def test_killed_at_random_steps_and_resumed_it_ends_with_the_same_bits(tmp_path):
    """SIGKILL in the middle of whatever it does; ``KILLS=10`` in the shell for more of them."""
    changes = (*SMALL, *MORE, "optimise.epochs=1", "optimise.batch=16")
    arguments = ("--save-every", "1", "--log-every", "5", "--evaluate-every", "2")
    assert trained(tmp_path / "whole", *arguments, changes=changes).returncode == 0
    out, draw, killed = tmp_path / "killed", random.Random(0), 0
    for _ in range(KILLS):
        running = subprocess.Popen(
            command(out, *arguments, changes=changes),
            env=environment(),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        seen = max(steps_in(out / "checkpoints"), default=0)
        until = time.monotonic() + 60
        while running.poll() is None and time.monotonic() < until:
            if max(steps_in(out / "checkpoints"), default=0) > seen:
                time.sleep(draw.random() * 2)
                running.send_signal(signal.SIGKILL)
                running.wait()
                killed += running.returncode == -signal.SIGKILL
                break
            time.sleep(0.01)
        assert all(read(path_of(out / "checkpoints", step)) for step in steps_in(out / "checkpoints"))
    assert trained(out, *arguments, changes=changes).returncode == 0
    assert killed >= min(KILLS, 1)
    assert same(weights(out), weights(tmp_path / "whole"))
    assert same(load_file(out / "average.safetensors"), load_file(tmp_path / "whole" / "average.safetensors"))
    assert losses(out)[-1] == losses(tmp_path / "whole")[-1]


def test_workers_change_nothing(tmp_path):
    made = recipe("augment={flip: 0.5, shift: 1}", "optimise.epochs=0.3")
    for workers in (0, 2):
        train(made, out=tmp_path / str(workers), running=replace(QUIET, workers=workers))
    assert same(*(weights(tmp_path / str(workers)) for workers in (0, 2)))


def test_a_step_in_parts_is_the_step(tmp_path):
    made = recipe("optimise.epochs=0.5")
    for parts in (32, 8):
        train(made, out=tmp_path / str(parts), running=replace(QUIET, per_process=parts, log_every=1))
    assert losses(tmp_path / "8") == pytest.approx(losses(tmp_path / "32"), rel=1e-6)


def test_checkpointing_changes_nothing(tmp_path):
    made = recipe(*MORE, "optimise.epochs=0.2")
    for on in (False, True):
        train(made, out=tmp_path / str(on), running=replace(QUIET, checkpointing=on))
    assert same(*(weights(tmp_path / str(on)) for on in (False, True)))


def test_in_bfloat16_it_computes_nearly_the_same_and_keeps_its_weights_whole(tmp_path):
    made = recipe("optimise.epochs=0.3")
    for precision in ("float32", "bfloat16"):
        train(made, out=tmp_path / precision, running=replace(QUIET, precision=precision, log_every=1))
    assert {tensor.dtype for tensor in weights(tmp_path / "bfloat16").values()} == {torch.float32}
    assert losses(tmp_path / "bfloat16") != losses(tmp_path / "float32")
    assert losses(tmp_path / "bfloat16") == pytest.approx(losses(tmp_path / "float32"), rel=0.02)


def test_the_average_follows_the_weights():
    model = torch.nn.Linear(2, 1)
    first = [p.detach().clone() for p in model.parameters()]
    average = Average(model, 0.75)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    average.update()
    with average.applied():
        for p, start in zip(model.parameters(), first, strict=True):
            torch.testing.assert_close(p, start + 0.25)
    for p, start in zip(model.parameters(), first, strict=True):
        assert torch.equal(p, start + 1)


TEACHER = "patch: 4, depth: 2, dim: 16, heads: 2, image_size: 8, channels: 1"


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_a_student_learns_from_what_the_teacher_says_of_the_same_images(tmp_path, kind):
    """The loss is that of equations 2 and 3 with smoothed labels, and the weights are the file's."""
    train(recipe("optimise.epochs=0.2"), out=tmp_path, running=QUIET)
    said = f"teacher: 'vit:Ti/16', weights: {tmp_path / 'weights.safetensors'}, kind: {kind}, options: {{{TEACHER}}}"
    still = ("options.drop_path=0.0", "objective.smoothing=0.2", "optimise.epochs=0.1")
    made = recipe("model=deit:Ti/16 distilled", f"distil={{{said}}}", *still)
    teacher = teacher_of(made, classes=10)
    assert same(teacher.state_dict(), weights(tmp_path))
    student, images, labels = build(made, classes=10).train(), torch.randn(4, 1, 8, 8), torch.tensor([1, 2, 3, 9])
    own, taught = student(images).unbind(1)
    told = teacher(images)
    first = F.cross_entropy(own, labels, label_smoothing=0.2)
    if kind == "hard":
        expected = first / 2 + F.cross_entropy(taught, told.argmax(-1)) / 2
    else:
        apart = F.kl_div((taught / 3).log_softmax(-1), (told / 3).softmax(-1), reduction="batchmean")
        expected = first / 2 + 9 * apart / 2
    torch.testing.assert_close(Criterion(made, teacher)(student, images, labels), expected)
    train(made, out=tmp_path / "student", running=QUIET)


def test_a_teacher_of_other_classes_is_refused(tmp_path):
    made = recipe(f"distil={{teacher: 'vit:Ti/16', options: {{{TEACHER}, num_classes: 7}}}}")
    with pytest.raises(ValueError, match="tells 7 classes apart, and the images have 10"):
        teacher_of(replace(made, distil=replace(made.distil, weights=None)), classes=10, trained=False)


def test_another_recipe_does_not_go_on_in_the_same_folder(tmp_path):
    train(recipe("optimise.epochs=0.1"), out=tmp_path, running=QUIET)
    with pytest.raises(ValueError, match=r"differs in optimise.lr \(0.001 there, 0.5 here\): choose another --out"):
        train(recipe("optimise.epochs=0.1", "optimise.lr=0.5"), out=tmp_path, running=QUIET)


def test_what_was_finished_is_not_done_again(tmp_path, capsys):
    made = recipe("optimise.epochs=0.1")
    train(made, out=tmp_path, running=QUIET)
    before = weights(tmp_path)
    found = train(made, out=tmp_path, running=QUIET)
    assert "has all" in capsys.readouterr().err
    assert found.top1 is not None
    assert same(before, weights(tmp_path))


def test_a_loss_that_is_not_finite_ends_it_and_no_checkpoint_has_it(tmp_path):
    made = recipe("optimise.lr=1e30", "optimise.optimizer=sgd", "optimise.warmup_epochs=0", "optimise.clip=null")
    with pytest.raises(FloatingPointError, match=r"the loss or a weight is not finite at step .* A lower optimise.lr"):
        train(made, out=tmp_path, running=replace(QUIET, save_every=1))
    for step in steps_in(tmp_path / "checkpoints"):
        assert all(torch.isfinite(t).all() for t in read(path_of(tmp_path / "checkpoints", step))[1]["model"].values())


def test_where_there_is_no_room_it_goes_on_as_long_as_it_has_a_checkpoint(tmp_path, monkeypatch, capsys):
    made = recipe("optimise.epochs=0.2")
    write = looped.write

    def full(folder, step, *rest):
        if step in (2, 3):
            raise OSError(28, "No space left on device")
        return write(folder, step, *rest)

    monkeypatch.setattr(looped, "write", full)
    train(made, out=tmp_path, running=replace(QUIET, save_every=1))
    assert capsys.readouterr().err.count("the last one is of step 1, and the training goes on") == 2
    with pytest.raises(OSError, match="make room, and start again"):
        train(made, out=tmp_path / "other", running=replace(QUIET, save_every=2))


def test_a_worker_that_dies_is_replaced_where_it_was():
    """Batches go on at the next one; four deaths at one place are an error."""
    asked, told, deaths = [], [], {2: 1, 5: 3}

    def batches(step):
        asked.append(step)
        for i in range(2 * step, 8):  # two parts a step
            if deaths.get(i, 0):
                deaths[i] -= 1
                raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
            yield i

    assert list(feed(batches, 0, 2, told.append)) == list(range(8))
    assert (asked, len(told)) == ([0, 1, 2, 2, 2], 4)
    deaths[2] = 9
    with pytest.raises(RuntimeError, match="died 4 times at the same place"):
        list(feed(batches, 0, 2, told.append))

    def broken(step):
        yield 0
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        list(feed(broken, 0, 1, told.append))


def test_a_real_worker_that_is_killed_is_replaced(tmp_path):
    longer = (*SMALL, "optimise.epochs=6")
    made = command(tmp_path / "a", "--workers", "2", "--evaluate-every", "6", "--save-every", "20", changes=longer)
    running = subprocess.Popen(made, env=environment(), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    children = f"/proc/{running.pid}/task/{running.pid}/children"
    if not os.path.exists(children):  # noqa: PTH110
        running.kill()
        pytest.skip("children are looked up in /proc")
    until = time.monotonic() + 60
    while time.monotonic() < until and not steps_in(tmp_path / "a" / "checkpoints"):
        time.sleep(0.01)
    with open(children) as file:  # noqa: PTH123
        workers = [int(pid) for pid in file.read().split()]
    os.kill(workers[-1], signal.SIGKILL)
    told = running.communicate()[1]
    assert running.returncode == 0, told
    assert "others take its place" in told
    assert trained(tmp_path / "b", "--evaluate-every", "6", changes=longer).returncode == 0
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))


@pytest.mark.parametrize(
    ("batch", "processes", "per_process", "expected"),
    [(32, 1, None, (32, 1)), (32, 2, None, (16, 1)), (32, 2, 4, (4, 4)), (32, 1, 99, (32, 1))],
)
def test_a_step_is_shared_by_processes_and_cut_into_parts(batch, processes, per_process, expected):
    assert _parts(batch, processes, per_process) == expected


@pytest.mark.parametrize(("batch", "processes", "per_process"), [(32, 3, None), (32, 1, 5)])
def test_what_cannot_be_shared_is_an_error(batch, processes, per_process):
    with pytest.raises(ValueError, match=r"share alike|would divide them"):
        _parts(batch, processes, per_process)


@pytest.mark.parametrize("name", ["per_process", "save_every", "log_every", "evaluate_every", "keep"])
def test_numbers_of_a_run_are_one_or_more(name):
    with pytest.raises(ValueError, match=f"{name}=0 must be 1 or more"):
        Running(**{name: 0})


def test_a_model_of_text_or_with_unknown_options_is_refused():
    with pytest.raises(ValueError, match="is no model of images"):
        build(
            load_recipe("digits", ["model=gpt:GPT-2", "options={}", "data.mean=[0, 0, 0]", "data.std=[1, 1, 1]"]),
            classes=10,
        )
    with pytest.raises(ValueError, match="banana"):
        build(recipe("options.banana=3"), classes=10)


def test_a_dry_run_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = dry_run(recipe(*MORE), running=QUIET)
    assert found.steps == 3
    assert [*tmp_path.iterdir()] == []
