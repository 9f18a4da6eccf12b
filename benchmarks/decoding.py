"""How many tokens a second a translation model writes, greedily, with and without a cache."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from attention_notes.papers.transformer import Transformer, transformer
from attention_notes.registry.parity import fill
from benchmarks.peers import marian
from benchmarks.timing import Clock, interleaved, interval, ratio

VOCABULARY, START, END = 32_000, 1, 2  # no row of ours or theirs ends early: the end is never the likeliest token
SOURCE, WRITTEN = 48, 64


def decode(device: torch.device, *, batch: int, seconds: float, layers: int = 6, rounds: int = 20) -> dict[str, Any]:
    """One row of the results: the sizes of Table 3's base model, against transformers and ``nn.Transformer``.

    Raises:
        AssertionError: if the three do not write the same tokens.
    """
    ours = transformer("base", vocabulary=VOCABULARY, layers=layers, dropout=0.0, bias=True).eval()
    fill(ours)
    with torch.no_grad():
        ours.embedding.tokens.weight[END].mul_(1e-3)
        ours.embedding.tokens.weight[ours.embedding.padding].mul_(1e-3)
    source = torch.randint(3, VOCABULARY, (batch, SOURCE), generator=torch.Generator().manual_seed(0)).to(device)
    ours.to(device)
    peer, plain = marian(ours, longest=SOURCE + WRITTEN).to(device), without_cache(ours)
    works: dict[str, Callable[[], Tensor]] = {
        "ours": partial(ours.greedy, source, start=START, end=END, limit=WRITTEN),
        "transformers": partial(_generate, peer, source),
        "nn.Transformer, no cache": partial(plain, source),
    }
    written = {name: work() for name, work in works.items()}
    assert all(torch.equal(tokens, written["ours"]) for tokens in written.values()), "not the same tokens"
    works["ours again"] = works["ours"]
    samples = interleaved(works, Clock(device), rounds=rounds, seconds=seconds)
    return {
        "batch": batch,
        "threads": torch.get_num_threads(),
        "tokens a second": batch * WRITTEN / interval(samples["ours"]).median,
        "ratios": {name: ratio(samples[name], samples["ours"]) for name in works if not name.startswith("ours")},
        "control": ratio(samples["ours again"], samples["ours"]),
    }


@torch.no_grad()
def _generate(model: Any, source: Tensor) -> Tensor:
    """The likeliest tokens, without the start."""
    options = {"max_new_tokens": WRITTEN, "min_new_tokens": WRITTEN, "num_beams": 1, "do_sample": False}
    return model.generate(source, attention_mask=torch.ones_like(source), **options)[:, 1:]


def without_cache(ours: Transformer) -> Callable[[Tensor], Tensor]:
    """PyTorch's own layers with the weights of ours; they keep nothing, and so read all that was written each time."""
    first: Any = ours.encoder.layers[0]
    sizes = {"d_model": ours.embedding.tokens.embedding_dim, "nhead": first.attention.heads}
    sizes |= {"dim_feedforward": first.mlp.expand.out_features, "dropout": 0.0, "batch_first": True}
    layers = {
        "encoder": [_filled(nn.TransformerEncoderLayer(**sizes), layer) for layer in ours.encoder.layers],
        "decoder": [_filled(nn.TransformerDecoderLayer(**sizes), layer) for layer in ours.decoder.layers],
    }

    @torch.no_grad()
    def write(source: Tensor) -> Tensor:
        memory = ours.embedding(source)
        for layer in layers["encoder"]:
            memory = layer(memory)
        tokens = torch.full_like(source[:, :1], START)
        for _ in range(WRITTEN):
            x, n = ours.embedding(tokens), tokens.shape[1]
            mask = nn.Transformer.generate_square_subsequent_mask(n, device=source.device)
            for layer in layers["decoder"]:
                x = layer(x, memory, tgt_mask=mask, tgt_is_causal=True)
            tokens = torch.cat([tokens, ours.embedding.logits(x[:, -1:]).argmax(-1)], 1)
        return tokens[:, 1:]

    return write


def _filled(layer: nn.Module, ours: Any) -> nn.Module:
    """A layer of PyTorch with our weights."""
    attentions = {"self_attn": ours.attention} | ({"multihead_attn": ours.cross} if hasattr(ours, "cross") else {})
    state = {}
    for name, attention in attentions.items():
        maps = (attention.query, attention.key, attention.value)
        for kind in ("weight", "bias"):
            state[f"{name}.in_proj_{kind}"] = torch.cat([getattr(one, kind) for one in maps])
            state[f"{name}.out_proj.{kind}"] = getattr(attention.output, kind)
    named = {"linear1": ours.mlp.expand, "linear2": ours.mlp.contract}
    named |= {f"norm{i + 1}": residual.norm for i, residual in enumerate(ours.residuals)}
    state |= {f"{name}.{kind}": getattr(module, kind) for name, module in named.items() for kind in ("weight", "bias")}
    layer.load_state_dict({name: tensor.detach() for name, tensor in state.items()})
    return layer.to(state["linear1.weight"].device).eval()
