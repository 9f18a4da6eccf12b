"""The small models of this paper, and the same of ``transformers``."""

from typing import Any

from torch import nn

from attention_notes.papers.gpt import GPT, gpt
from tests.weights.parity import randomised

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
