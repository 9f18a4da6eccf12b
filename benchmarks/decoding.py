"""How many tokens a second a translation model and a language model write, greedily and with four beams."""

from collections.abc import Callable
from contextlib import ExitStack
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from attention_notes.nn.decoding import DecodingState, greedy
from attention_notes.nn.layout import column_major
from attention_notes.papers.decoding import beam_search
from attention_notes.papers.gpt import GPT, gpt
from attention_notes.papers.transformer import Transformer, transformer
from attention_notes.registry.parity import fill
from benchmarks.peers import gpt2, marian
from benchmarks.timing import Clock, interleaved, interval, peak_memory, ratio

START, END = 1, 2  # no row of ours or theirs ends early: the end is never among the likeliest tokens
READ, WRITTEN = 48, 32
COLUMNS = "ours, column-major"
MODELS: dict[str, Callable[..., Transformer | GPT]] = {
    # the base model of Table 3, with the vocabulary of a published model of that size, opus-mt-en-de
    "translation": partial(transformer, "base", vocabulary=58_101, dropout=0.0, bias=True),
    "language": partial(gpt, "GPT-2", dropout=0.0),
}


def decode(
    device: torch.device, *, model: str, batch: int, beams: int, seconds: float, rounds: int = 20, **smaller: Any
) -> dict[str, Any]:
    """One row of the results: a row of ``MODELS`` against transformers and, where it is greedy, ``nn.Transformer``.

    One text at a time on a CPU is also written with our weights in column-major order.

    Raises:
        AssertionError: if they do not write the same tokens.
    """
    ours = MODELS[model](**smaller).eval()
    fill(ours)
    table = ours.embedding.tokens if isinstance(ours, Transformer) else ours.tokens
    with torch.no_grad():
        table.weight[: END + 1].mul_(1e-3)  # nor is padding
    read = torch.randint(3, len(table.weight), (batch, READ), generator=torch.Generator().manual_seed(0)).to(device)
    ours.to(device)
    works = {"ours": partial(_write, ours, read, beams), "transformers": partial(_generate, _peer(ours), read, beams)}
    if beams == 1 and isinstance(ours, Transformer):
        works["nn.Transformer, no cache"] = partial(without_cache(ours), read)
    alone = batch * beams == 1 and device.type == "cpu"
    with ExitStack() as turned:
        if alone:
            columns = deepcopy(ours)
            turned.enter_context(column_major(columns))
            works[COLUMNS] = partial(_write, columns, read, beams)
        written = {name: work() for name, work in works.items()}
        assert all(torch.equal(tokens, written["ours"]) for tokens in written.values()), "not the same tokens"
        memory = {name: peak_memory(work, device) for name, work in works.items()}
        works["ours again"] = works["ours"]
        samples = interleaved(works, Clock(device), rounds=rounds, seconds=seconds)
    return {
        "model": model,
        "batch": batch,
        "beams": beams,
        "threads": torch.get_num_threads(),
        "tokens a second": batch * WRITTEN / interval(samples["ours"]).median,
        "memory": memory,
        "ratios": {name: ratio(samples[name], samples["ours"]) for name in works if not name.startswith("ours")},
        "column-major": ratio(samples["transformers"], samples[COLUMNS]) if alone else None,
        "control": ratio(samples["ours again"], samples["ours"]),
    }


@torch.no_grad()
def _write(ours: Transformer | GPT, read: Tensor, beams: int) -> Tensor:
    """The likeliest tokens, or the best of the beams."""
    translates = isinstance(ours, Transformer)
    first, rest = (torch.full_like(read[:, 0], START), read) if translates else (read[:, -1], read[:, :-1])
    state: DecodingState = ours.begin(rest)
    if beams == 1:
        return greedy(state, first, end=END, limit=WRITTEN)
    return beam_search(state, first, beams=beams, end=END, limit=WRITTEN).tokens[:, 0]


@torch.no_grad()
def _generate(model: Any, read: Tensor, beams: int) -> Tensor:
    """The same by transformers, without what was there before."""
    options = {"max_new_tokens": WRITTEN, "num_beams": beams, "do_sample": False, "pad_token_id": 0}
    return model.generate(read, attention_mask=torch.ones_like(read), **options)[:, -WRITTEN:]


def _peer(ours: Transformer | GPT) -> nn.Module:
    device = next(ours.parameters()).device
    return (marian(ours, longest=READ + WRITTEN) if isinstance(ours, Transformer) else gpt2(ours, end=END)).to(device)


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
