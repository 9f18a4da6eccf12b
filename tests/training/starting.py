"""Trainings in processes of their own, as the shell or torchrun starts them."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "model=vit:Ti/16",
    "options={patch: 4, depth: 2, dim: 16, heads: 2}",
    "optimise.batch=32",
    "optimise.epochs=1",
    "optimise.warmup_epochs=0.05",
)


def environment() -> dict[str, str]:
    alone = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    kept = {name: value for name, value in os.environ.items() if name not in alone}
    return kept | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}


def command(
    out: Path, *arguments: str, changes: Sequence[str] = SMALL, processes: int = 1, recipe: str = "digits"
) -> list[str]:
    """The words of a training on the CPU, of the digits where no other recipe is named."""
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--master-addr=127.0.0.1"]
        start += [f"--master-port={free_port()}"]
    said = [word for change in changes for word in ("--set", change)]
    return [
        *start,
        "-m",
        "attention_notes",
        "train",
        recipe,
        "--device",
        "cpu",
        "--out",
        str(out),
        *said,
        *arguments,
    ]


def trained(out: Path, *arguments: str, **how: Any) -> subprocess.CompletedProcess[str]:
    """Run one to its end, whatever that is."""
    return subprocess.run(
        command(out, *arguments, **how), capture_output=True, text=True, check=False, env=environment(), cwd=ROOT
    )


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def losses(out: Path) -> list[float]:
    return [row["loss"] for row in rows(out) if "loss" in row]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
