"""The small models of this paper, and the same of ``transformers``."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from attention_notes.papers.gpt import GPT, gpt
from tests.weights.parity import Case, randomised

# every size another prime, but for the width, which the heads divide
SIZES: dict[str, Any] = {"vocabulary": 23, "context": 19, "layers": 2, "dim": 30, "heads": 3}
NAMES = ("GPT", "GPT-2")


def theirs(name: str, *, head: bool = True, **others: float) -> nn.Module:
    import transformers

    named = {"vocabulary": "vocab_size", "context": "n_positions", "layers": "n_layer", "dim": "n_embd"}
    sizes = {named.get(key, "n_head"): value for key, value in SIZES.items()} | others
    if name == "GPT":
        config = transformers.OpenAIGPTConfig(**sizes)
        return (transformers.OpenAIGPTLMHeadModel if head else transformers.OpenAIGPTModel)(config)
    config = transformers.GPT2Config(**sizes)
    return (transformers.GPT2LMHeadModel if head else transformers.GPT2Model)(config)


def pair(name: str) -> tuple[GPT, nn.Module]:
    """Ours with the random weights of theirs, both in evaluation mode."""
    other = randomised(theirs(name))
    return gpt(name, **SIZES, pretrained=other.state_dict()).eval(), other


class Texts(Case):
    """A case that reads tokens."""

    def images(self) -> Tensor:
        return torch.randint(SIZES["vocabulary"], (2, *self.image))


class Tied(nn.Module):
    """Their trunk under the prefix that it has below a head, with the table of the tokens as its head."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.transformer = theirs(name, head=False)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden: Tensor = self.transformer(tokens).last_hidden_state
        return hidden @ self.transformer.get_input_embeddings().weight.T


def _tied(name: str) -> nn.Module:
    model: nn.Module = randomised(Tied(name))
    return model


CASES = {
    "gpt tied": Texts(partial(gpt, "GPT", **SIZES), partial(_tied, "GPT"), "transformers, GPT", (17,)),
    "gpt2 tied": Texts(partial(gpt, "GPT-2", **SIZES), partial(_tied, "GPT-2"), "transformers", (17,)),
}
_BOTH = {"transformers", "transformers, GPT"}
LAYOUTS = {
    "gpt": _BOTH | {f"{name}, without its head" for name in _BOTH},
    "gpt2": _BOTH | {f"{name}, without its head" for name in _BOTH},
}
