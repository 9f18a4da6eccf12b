"""Tests of the tests: each seeded fault in the package must make the suite fail, and by a test that is about it.

A fault is planted in a copy of the package, and the tests of that part run against the copy until one fails. Which one
it was is printed (``pytest -s``).
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Fault:
    """In ``file``, ``right`` becomes ``wrong``; a test of ``suite`` must notice."""

    file: str
    right: str
    wrong: str
    suite: str


FAULTS = {
    "the scores are not divided by the root of the width": Fault(
        "layers/attention.py",
        "q.shape[-1] ** -0.5 if scale is None",
        "1.0 if scale is None",
        "layers",
    ),
    "the mask is dropped": Fault(
        "layers/attention.py",
        "attn_mask=mask, scale=scale",
        "scale=scale",
        "layers",
    ),
    "the softmax runs over the queries": Fault(
        "layers/attention.py",
        "return scores.softmax(-1)",
        "return scores.softmax(-2)",
        "layers",
    ),
    "heads are cut from the wrong axis": Fault(
        "layers/attention.py",
        '"b n (h d) -> b h n d", h=self.heads)',
        '"b n (d h) -> b h n d", h=self.heads)',
        "layers",
    ),
    "the decoder sees what it is to predict": Fault(
        "papers/transformer.py",
        "device=target.device).tril()",
        "device=target.device).tril(1)",
        "papers/test_transformer.py",
    ),
    "padding is looked at": Fault(
        "papers/transformer.py",
        "return tokens.ne(self.embedding.padding)[:, None, None]",
        "return tokens.ne(-1)[:, None, None]",
        "papers/test_transformer.py",
    ),
    "pre-norm normalises the stream": Fault(
        "papers/transformer.py",
        "return x + self.dropout(sublayer(self.norm(x)))",
        "return self.norm(x) + self.dropout(sublayer(self.norm(x)))",
        "papers/test_transformer.py",
    ),
    "embeddings are not scaled": Fault(
        "papers/transformer.py",
        "x = self.tokens(tokens) * math.sqrt(self.tokens.embedding_dim)",
        "x = self.tokens(tokens)",
        "papers/test_transformer.py",
    ),
    "the cache forgets what was written": Fault(
        "papers/transformer.py",
        "        self.written = new\n",
        "        self.written = None\n",
        "papers/test_transformer.py",
    ),
    "position embeddings are not added": Fault(
        "papers/vit.py",
        "self.pooling.prepend(self.patches(images)) + self.positions",
        "self.pooling.prepend(self.patches(images))",
        "papers/test_vit.py",
    ),
    "a ViT whose output does not depend on the image": Fault(
        "papers/vit.py",
        "return self.head(self.pooling(self.tokens(images)))",
        "return self.head(self.pooling(self.tokens(images) * 0))",
        "papers/test_vit.py",
    ),
    "positions are interpolated without antialiasing": Fault(
        "papers/vit.py",
        'mode="bicubic", antialias=True',
        'mode="bicubic"',
        "papers/test_vit.py",
    ),
    "a patch is flattened channel last": Fault(
        "papers/vit.py",
        "(ch py px)",
        "(py px ch)",
        "papers/test_vit.py",
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_seeded_fault_is_caught(fault, tmp_path):
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    file = tmp_path / "src/attention_notes" / fault.file
    text = file.read_text(encoding="utf-8")
    assert text.count(fault.right) >= 1, "the fault no longer fits the code: plant it anew"
    file.write_text(text.replace(fault.right, fault.wrong), encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "--no-header", "-p", "no:cacheprovider", "-x", f"tests/{fault.suite}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    caught = [line for line in run.stdout.splitlines() if line.startswith("FAILED")]
    assert caught, f"nothing noticed that {fault.wrong!r} stands for {fault.right!r}:\n{run.stdout[-2000:]}"
    print(caught[0])
