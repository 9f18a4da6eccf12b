"""Where a record comes from: the machine, the versions, the commit, the day."""

import json
import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

LIBRARIES = ("torch", "timm", "torchvision", "transformers", "vit-pytorch", "mmcv-lite")


def provenance(device: torch.device, started: float) -> dict[str, Any]:
    """On what it ran, with what, when, and how long it took."""
    return {
        "machine": machine(device),
        "versions": {library: version(library) for library in LIBRARIES},
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
        "minutes": (time.perf_counter() - started) / 60,
    }


def machine(device: torch.device) -> dict[str, Any]:
    """What it ran on."""
    if device.type == "cuda":
        return {"device": torch.cuda.get_device_name(device), "python": platform.python_version()}
    names = [row.split(":")[1].strip() for row in _lines("/proc/cpuinfo") if row.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    capability = torch.backends.cpu.get_cpu_capability()
    return {"device": name, "cores": os.cpu_count(), "vectors": capability, "python": platform.python_version()}


def kind(machine: dict[str, Any]) -> str:
    """The make of a machine, and the instruction set that PyTorch's kernels take there: makers reuse names."""
    return " with ".join(machine[key] for key in ("device", "vectors") if key in machine) or "another machine"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def commit() -> str:
    """The commit that the files are of."""
    asked = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True).stdout.strip()


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write it whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record, indent=1) + "\n")
    part.replace(path)
    print(f"written to {path}")
