"""Seeded faults, each with the test that must catch it."""

from tests.planting import Fault

FAULTS = {
    "position embeddings are not added": Fault(
        "papers/vit/model.py",
        "self.pooling.prepend(self.patches(images)) + self._places()",
        "self.pooling.prepend(self.patches(images))",
        "papers/vit/test_model.py::test_the_encoder_does_not_know_where_patches_are_but_for_their_positions",
    ),
    "a ViT whose output does not depend on the image": Fault(
        "papers/vit/model.py",
        "return self.head(self.read(self.tokens(images)))",
        "return self.head(self.read(self.tokens(images) * 0))",
        "papers/vit/test_model.py::test_an_untrained_model_answers_otherwise_to_another_image",
    ),
    "positions are interpolated without antialiasing": Fault(
        "papers/vit/model.py",
        'mode="bicubic", antialias=True',
        'mode="bicubic"',
        "papers/vit/test_model.py::test_resized_positions_equal_those_of_timm",
    ),
    "a patch is flattened channel last": Fault(
        "papers/vit/model.py",
        "(ch py px)",
        "(py px ch)",
        "papers/vit/test_model.py::test_patches_are_read_row_by_row_and_channel_first",
    ),
    "short sequences attend by the fused kernel in training, too": Fault(
        "papers/vit/short.py",
        "if short and self.training",
        "if False",
        "papers/vit/test_short.py::test_short_attention_is_written_out_in_training_and_gives_the_same",
    ),
}
