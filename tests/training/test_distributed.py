"""Several processes: the same losses as one, and spread weights the same as whole ones."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.training.starting import ROOT, SMALL, command, environment, free_port, rows, trained

CHANGES = (*SMALL, "optimise.epochs=0.3", "augment={flip: 0.5}", "optimise.ema=0.9", "optimise.clip=0.5")
EACH = ("--log-every", "1")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    out = tmp_path_factory.mktemp("alone")
    done = trained(out, *EACH, changes=CHANGES)
    assert done.returncode == 0, done.stderr
    return out


def compare(one, other):
    """The loss of every step, which the weights before it decide; at the end those held out, and of the average."""
    for name in ("loss", "held_out_loss", "average_loss"):
        a, b = ([row[name] for row in rows(out) if name in row] for out in (one, other))
        assert len(a) > 0
        assert a == pytest.approx(b, rel=1e-6)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_have_the_losses_of_one(tmp_path, alone, strategy):
    """In steps of two parts, too; it takes seconds, since processes take as long to start."""
    done = trained(tmp_path, *EACH, "--strategy", strategy, "--per-process", "8", changes=CHANGES, processes=2)
    assert done.returncode == 0, done.stderr
    compare(tmp_path, alone)


def test_spread_weights_are_stored_whole_and_taken_up_again(tmp_path, alone):
    """By one process, which has them all."""
    done = trained(tmp_path, *EACH, "--strategy", "fsdp", "--last-step", "5", changes=CHANGES, processes=2)
    assert done.returncode == 0, done.stderr
    log = tmp_path / "log.jsonl"  # without what was evaluated where it stopped
    log.write_text("".join(line for line in log.read_text().splitlines(keepends=True) if "held" not in line))
    assert trained(tmp_path, *EACH, changes=CHANGES).returncode == 0
    compare(tmp_path, alone)


def test_two_machines_have_the_losses_of_one_process(tmp_path, alone):
    """Two processes on each of two network namespaces, which have nothing in common but a cable."""
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("network namespaces need Linux, root and iproute2")
    names = [f"notes{os.getpid() % 10000}{end}" for end in "ab"]
    port = free_port()
    try:
        made = [["netns", "add", name] for name in names]
        made += [["link", "add", names[0], "type", "veth", "peer", "name", names[1]]]
        for name in names:
            made += [["link", "set", name, "netns", name]]
        for words in made:
            if subprocess.run(["ip", *words], capture_output=True, check=False).returncode:
                pytest.skip("this machine makes no network namespaces")
        for i, name in enumerate(names):
            for words in (
                ["addr", "add", f"10.77.0.{i + 1}/24", "dev", name],
                ["link", "set", name, "up"],
                ["link", "set", "lo", "up"],
            ):
                subprocess.run(["ip", "-n", name, *words], check=True)
        machines = []
        for i, name in enumerate(names):
            words = command(tmp_path, *EACH, changes=CHANGES)
            start = [
                "ip",
                "netns",
                "exec",
                name,
                words[0],
                "-m",
                "torch.distributed.run",
                "--nnodes=2",
                "--nproc-per-node=2",
            ]
            start += [f"--node-rank={i}", "--master-addr=10.77.0.1", f"--master-port={port}"]
            seen = environment() | {"GLOO_SOCKET_IFNAME": name}
            machines.append(
                subprocess.Popen(
                    [*start, *words[1:]], env=seen, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
                )
            )
        told = [machine.communicate(timeout=240)[0].decode() for machine in machines]
        assert [machine.returncode for machine in machines] == [0, 0], told
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    compare(tmp_path, alone)
