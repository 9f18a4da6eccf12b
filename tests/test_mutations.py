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
    "input channels of opposite sign cancel in a receptive field": Fault(
        "papers/why_attention.py",
        "gradient.square().sum(channel)",
        "gradient.sum(channel).square()",
        "papers/test_why_attention.py",
    ),
    "a layer's own stride widens its receptive field": Fault(
        "papers/why_attention.py",
        "        width += (kernel - 1) * dilation * step\n        step *= stride\n",
        "        step *= stride\n        width += (kernel - 1) * dilation * step\n",
        "papers/test_why_attention.py",
    ),
    "padding forgets the dilation": Fault(
        "papers/why_attention.py",
        "padding=kernel // 2 * dilation",
        "padding=kernel // 2",
        "papers/test_why_attention.py",
    ),
    "one dependence is taken for all": Fault(
        "papers/why_attention.py",
        "(dependence(stack, x) > 0).all()",
        "(dependence(stack, x) > 0).any()",
        "papers/test_why_attention.py",
    ),
    "the mask is dropped where a bias is added": Fault(
        "papers/positional_encoding.py",
        "attention(q, k, v, mask=joined(self.bias(q, k), mask))",
        "attention(q, k, v, mask=self.bias(q, k))",
        "papers/test_positional_encoding.py",
    ),
    "offsets count from the key to the query": Fault(
        "papers/positional_encoding.py",
        "torch.arange(m, device=device) - torch.arange(n, device=device)[:, None]",
        "torch.arange(n, device=device)[:, None] - torch.arange(m, device=device)",
        "papers/test_positional_encoding.py",
    ),
    "rotary cuts its pairs in one layout and joins them in the other": Fault(
        "papers/positional_encoding.py",
        "even, odd = x[..., ::2], x[..., 1::2]",
        "even, odd = x.chunk(2, -1)",
        "papers/test_positional_encoding.py",
    ),
    "conditional positions have no border": Fault(
        "papers/positional_encoding.py",
        '"circular"] = "zeros"',
        '"circular"] = "circular"',
        "papers/test_positional_encoding.py",
    ),
    "layer norm averages over the tokens": Fault(
        "papers/layer_norm.py",
        "centred = x - x.mean(-1, keepdim=True)",
        "centred = x - x.mean(-2, keepdim=True)",
        "papers/test_layer_norm.py",
    ),
    "batch norm keeps the biased variance": Fault(
        "papers/layer_norm.py",
        "unbiased = var.detach() * len(tokens) / (len(tokens) - 1)",
        "unbiased = var.detach()",
        "papers/test_layer_norm.py",
    ),
    "PowerNorm divides by a statistic that has seen the batch": Fault(
        "papers/layer_norm.py",
        "torch.where(exact, square, self.running_square)",
        "torch.where(exact, square, self.running_square.lerp(square, 1 - self.alpha_forward))",
        "papers/test_layer_norm.py",
    ),
    "PowerNorm forgets Gamma": Fault(
        "papers/layer_norm.py",
        "nu.mul_(1 - (1 - ctx.alpha) * gamma)",
        "nu.mul_(ctx.alpha)",
        "papers/test_layer_norm.py",
    ),
    "a distilled model forgets its second head": Fault(
        "papers/deit.py",
        "logits if self.training else logits.mean(dim=1)",
        "logits if self.training else logits[:, 0]",
        "papers/test_deit.py",
    ),
    "the temperature is not made up for": Fault(
        "papers/deit.py", "weight * tau**2 * divergence", "weight * divergence", "papers/test_deit.py"
    ),
    "the teacher judges the class head": Fault(
        "papers/deit.py", "own, taught = student.unbind(1)", "taught, own = student.unbind(1)", "papers/test_deit.py"
    ),
    "labels of CutMix ignore what the border cut off": Fault(
        "papers/deit.py",
        "kept = 1 - mixed[0, 0, rows, columns].numel() / mixed[0, 0].numel()",
        "kept = share",
        "papers/test_deit.py",
    ),
    "windows are shifted the wrong way": Fault(
        "layers/windows.py",
        "x.roll([-by for by in self.shift], (1, 2))",
        "x.roll(self.shift, (1, 2))",
        "layers/test_windows.py",
    ),
    "the shift's mask hides nothing": Fault(
        "layers/windows.py",
        "pieces[:, :, None] == pieces[:, None, :]",
        "pieces[:, :, None] * 0 == pieces[:, None, :] * 0",
        "layers/test_windows.py",
    ),
    "patches are merged row by row": Fault(
        "layers/windows.py",
        "(px py c)",
        "(py px c)",
        "layers/test_windows.py",
    ),
    "a larger window forgets the one it was trained in": Fault(
        "layers/windows.py",
        "/ max(t - 1, 1)",
        "/ max(w - 1, 1)",
        "layers/test_windows.py",
    ),
    "V2 normalises what a branch reads": Fault(
        "papers/swin.py",
        "self.drop_path(self.norm(branch(x)))",
        "self.drop_path(branch(self.norm(x)))",
        "papers/test_swin.py",
    ),
    "every block is shifted": Fault(
        "papers/swin.py",
        "shifted=j % 2 == 1",
        "shifted=True",
        "papers/test_swin.py",
    ),
    "the reduction reads one token of each window": Fault(
        "papers/pvt.py",
        "nn.Conv2d(dim, dim, ratio, stride=ratio)",
        "nn.Conv2d(dim, dim, 1, stride=ratio)",
        "papers/test_pvt.py",
    ),
    "windows that should overlap lie side by side": Fault(
        "papers/pvt.py",
        "kernel=2 * stride - 1, padding=stride - 1)",
        "kernel=stride)",
        "papers/test_pvt.py",
    ),
    "pieces are put together in another order": Fault(
        "layers/pieces.py",
        "torch.cat(found)",
        "torch.cat(found[::-1])",
        "layers/test_pieces.py",
    ),
    "what is recorded of a later piece is recorded as another attention": Fault(
        "probe.py",
        "if pieces.done.get():",
        "if not pieces:",
        "layers/test_pieces.py",
    ),
    "maps for dense tasks come before the last norm": Fault(
        "papers/pvt.py",
        "rearrange(self.norm(self.blocks(self.embed(x)))",
        "rearrange(self.blocks(self.embed(x))",
        "papers/test_pvt.py",
    ),
    "the class token has the place of the first patch": Fault(
        "papers/pvt.py",
        "(self.token + self.position).expand",
        "self.token.expand",
        "papers/test_pvt.py",
    ),
    "the pooled reduction takes the maximum": Fault(
        "papers/pvt.py",
        "nn.AdaptiveAvgPool2d(size)",
        "nn.AdaptiveMaxPool2d(size)",
        "papers/test_pvt.py",
    ),
    "a dot product that is not divided by the number of positions": Fault(
        "papers/non_local.py", "phi.mT @ (g / phi.shape[1])", "phi.mT @ g", "papers/test_non_local.py"
    ),
    "prefix sums over the wrong end": Fault(
        "papers/non_local.py", "sort(dim=1, descending=True)", "sort(dim=1)", "papers/test_non_local.py"
    ),
    "a new non-local block that speaks": Fault(
        "papers/non_local.py", "nn.init.zeros_(last.weight)", "nn.init.ones_(last.weight)", "papers/test_non_local.py"
    ),
    "time is subsampled as well": Fault(
        "papers/non_local.py",
        "(1, subsample, subsample) if dims == 3 else (subsample,) * dims",
        "(subsample,) * dims",
        "papers/test_non_local.py",
    ),
    "pooling after the embedding": Fault(
        "papers/non_local.py", "return embed(pool(x))", "return pool(embed(x))", "papers/test_non_local.py"
    ),
    "the queries are not whitened": Fault(
        "papers/dnl.py",
        "return _attend(whitened(self.query(x)), whitened(self.key(x)), v, self.scale)",
        "return _attend(self.query(x), whitened(self.key(x)), v, self.scale)",
        "papers/test_dnl.py",
    ),
    "whitening takes the mean over features": Fault(
        "papers/dnl.py",
        "return x - x.mean(dim=-2, keepdim=True)",
        "return x - x.mean(dim=-1, keepdim=True)",
        "papers/test_dnl.py",
    ),
    "gamma scales both halves": Fault(
        "papers/dnl.py",
        "return self.gamma * self.pairwise(x, v) + self.unary(x, v)",
        "return self.gamma * (self.pairwise(x, v) + self.unary(x, v))",
        "papers/test_dnl.py",
    ),
    "the block forgets what it got": Fault(
        "papers/dnl.py",
        "return x + y.mT.unflatten(2, x.shape[2:])",
        "return y.mT.unflatten(2, x.shape[2:])",
        "papers/test_dnl.py",
    ),
    "the maximum is an average": Fault(
        "papers/cbam.py",
        "return x.amax(over, keepdim=True)",
        "return x.mean(over, keepdim=True)",
        "papers/test_cbam.py",
    ),
    "the checksum of a file is not compared": Fault(
        "hub.py", "if wrong := expected - {found}:", "if wrong := set[str]():", "weights/test_hub.py"
    ),
    "queries and values change places when weights are written": Fault(
        "weights/layouts.py",
        "pieces = parts[0].chunk(len(match.theirs))",
        "pieces = parts[0].chunk(len(match.theirs))[::-1]",
        "weights/test_layouts.py",
    ),
    "windows are seen as if they had not been shifted": Fault(
        "seeing/places.py",
        "module.windows.cut(numbers)",
        "module.windows.cut(numbers.roll(module.windows.shift, (1, 2)))",
        "test_seeing.py",
    ),
    "the centre is cut from a corner": Fault(
        "images.py",
        "top, left = round((rows - y) / 2), round((columns - x) / 2)",
        "top, left = 0, 0",
        "test_images.py",
    ),
    "a map is added to itself": Fault(
        "papers/cbam.py", "return spatial(x) * x", "return spatial(x) * x + x", "papers/test_cbam.py"
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
