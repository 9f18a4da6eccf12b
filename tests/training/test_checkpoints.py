"""Checkpoints: whole or not at all, and read only when they are what was written."""

import errno
import json
import resource
import signal
import subprocess
import sys

import pytest
import torch

from attention_notes.training import checkpoints
from tests.training.starting import ROOT, environment

PARTS = {"model": {"a": torch.arange(6.0).reshape(2, 3).T}, "optimizer": {"a.step": torch.tensor(3.0)}}


def test_what_is_written_is_read(tmp_path):
    checkpoints.write(tmp_path, 7, PARTS, {"digest": "x"})
    step, state, parts, wrong = checkpoints.newest(tmp_path)
    assert (step, state["step"], state["digest"], wrong) == (7, 7, "x", [])
    assert torch.equal(parts["model"]["a"], PARTS["model"]["a"])
    assert parts["optimizer"]["a.step"] == 3


def test_the_newest_that_can_be_read_is_taken_and_what_is_wrong_is_told(tmp_path):
    for step in (1, 2, 3):
        checkpoints.write(tmp_path, step, PARTS, {})
    path = checkpoints.path_of(tmp_path, 3) / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (checkpoints.path_of(tmp_path, 2) / "state.json").write_text("{")
    step, *_, wrong = checkpoints.newest(tmp_path)
    assert step == 1
    assert ["model.safetensors is not what was written" in wrong[0], len(wrong)] == [True, 2]
    (checkpoints.path_of(tmp_path, 1) / "optimizer.safetensors").unlink()
    with pytest.raises(ValueError, match="no checkpoint can be read"):
        checkpoints.newest(tmp_path)
    assert checkpoints.newest(tmp_path / "none") is None


def test_the_oldest_go_and_what_a_sudden_end_left(tmp_path):
    for step in (1, 2, 3, 4):
        checkpoints.write(tmp_path, step, PARTS, {})
    (tmp_path / ".step-000000009.part").mkdir()
    checkpoints.prune(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000003", "step-000000004"]


def test_a_checkpoint_may_be_written_once_more(tmp_path):
    checkpoints.write(tmp_path, 1, PARTS, {"digest": "old"})
    checkpoints.write(tmp_path, 1, PARTS, {"digest": "new"})
    assert checkpoints.newest(tmp_path)[1]["digest"] == "new"
    checkpoints.prune(tmp_path, keep=1)
    assert len([*tmp_path.iterdir()]) == 1


def test_of_one_that_could_not_be_written_nothing_is_left(tmp_path, monkeypatch):
    checkpoints.write(tmp_path, 1, PARTS, {})

    def full(path, content):
        path.write_bytes(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints, "_write", full)
    with pytest.raises(OSError, match="the checkpoint of step 2 cannot be written: No space left") as raised:
        checkpoints.write(tmp_path, 2, PARTS, {})
    assert raised.value.errno == errno.ENOSPC
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001"]


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are those of Unix")
def test_the_system_itself_may_refuse_to_write(tmp_path):
    """A limit on the size of files stands for a full disk: the system's own error, in the middle of a file."""
    program = (
        "import sys, torch; from pathlib import Path; from attention_notes.training.checkpoints import write\n"
        "try: write(Path(sys.argv[1]), 1, {'model': {'a': torch.zeros(100_000)}}, {})\n"
        "except OSError as error: print(error); sys.exit(3)\n"
    )

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=ROOT,
        preexec_fn=limited,
        check=False,
    )
    assert (done.returncode, "cannot be written" in done.stdout) == (3, True), done.stderr
    assert [*tmp_path.iterdir()] == []


def test_a_state_that_names_files_elsewhere_is_only_read_as_data(tmp_path):
    """What is in the folder decides nothing but what is loaded: no code, and nothing that is not safetensors."""
    path = checkpoints.write(tmp_path, 1, PARTS, {})
    state = json.loads((path / "state.json").read_text())
    (path / "more.safetensors").write_bytes(b"\x80\x04N.")
    state["files"]["more.safetensors"] = __import__("hashlib").sha256(b"\x80\x04N.").hexdigest()
    (path / "state.json").write_text(json.dumps(state))
    with pytest.raises(ValueError, match="cannot be read"):
        checkpoints.read(path)
