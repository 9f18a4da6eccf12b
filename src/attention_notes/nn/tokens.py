"""A table with a row for each token of a vocabulary."""

from jaxtyping import Float, Int
from torch import Tensor, nn


class TokenTable(nn.Embedding):
    """PyTorch's table of embeddings, whose error says which tokens it was given and which it has.

    On a GPU, where a look-up outside of the table stops the device, the error is CUDA's own.
    """

    def forward(self, tokens: Int[Tensor, "*b"]) -> Float[Tensor, "*b c"]:
        """The rows of the tokens.

        Raises:
            ValueError: if a token is not in the vocabulary.
        """
        try:
            return super().forward(tokens)
        except IndexError:
            raise ValueError(
                f"tokens from {tokens.min()} to {tokens.max()}, but the vocabulary has {self.num_embeddings}, "
                f"from 0 to {self.num_embeddings - 1}: use the model's own tokeniser, or build the model with "
                f"a vocabulary of {max(int(tokens.max()) + 1, self.num_embeddings)} tokens"
            ) from None
