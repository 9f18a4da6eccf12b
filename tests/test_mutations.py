"""Tests of the tests: each seeded fault in the package must fail the test that is about it.

A fault is planted in a copy of the package. The test is named, so that nothing else can pass for a catch; that it
passes on the right code, in the same kind of process, is shown first.
"""

import shutil
from dataclasses import dataclass
from functools import cache

import pytest
from planting import ROOT, outcomes


@dataclass(frozen=True)
class Fault:
    """In ``file``, ``right`` becomes ``wrong``; the test ``caught_by``, named as below ``tests/``, must notice."""

    file: str
    right: str
    wrong: str
    caught_by: str


FAULTS = {
    "the scores are not divided by the root of the width": Fault(
        "layers/attention.py",
        "q.shape[-1] ** -0.5 if scale is None",
        "1.0 if scale is None",
        "layers/test_attention.py::test_the_scores_are_divided_by_the_root_of_the_width",
    ),
    "the mask is dropped": Fault(
        "layers/attention.py",
        "attn_mask=mask, scale=scale",
        "scale=scale",
        "layers/test_attention.py::test_a_query_that_may_look_nowhere_gets_nothing",
    ),
    "the softmax runs over the queries": Fault(
        "layers/attention.py",
        "return scores.softmax(-1)",
        "return scores.softmax(-2)",
        "layers/test_attention.py::test_two_keys_by_hand",
    ),
    "heads are cut from the wrong axis": Fault(
        "layers/attention.py",
        '"b n (h d) -> b h n d", h=self.heads)',
        '"b n (d h) -> b h n d", h=self.heads)',
        "layers/test_attention.py::test_heads_equal_those_of_pytorch_in_outputs_and_gradients",
    ),
    "the decoder sees what it is to predict": Fault(
        "papers/transformer.py",
        "device=target.device).tril()",
        "device=target.device).tril(1)",
        "papers/test_transformer.py::test_the_future_of_the_target_changes_nothing_before_it",
    ),
    "padding is looked at": Fault(
        "papers/transformer.py",
        "return tokens.ne(self.embedding.padding)[:, None, None]",
        "return tokens.ne(-1)[:, None, None]",
        "papers/test_transformer.py::test_padding_and_neighbours_in_the_batch_change_nothing",
    ),
    "pre-norm normalises the stream": Fault(
        "papers/transformer.py",
        "return x + self.dropout(sublayer(self.norm(x)))",
        "return self.norm(x) + self.dropout(sublayer(self.norm(x)))",
        "papers/test_transformer.py::test_the_encoder_equals_pytorchs_in_outputs_and_gradients",
    ),
    "embeddings are not scaled": Fault(
        "papers/transformer.py",
        "x = self.tokens(tokens) * math.sqrt(self.tokens.embedding_dim)",
        "x = self.tokens(tokens)",
        "papers/test_transformer.py::test_scaled_embeddings_and_logits_share_one_matrix_of_unit_scale",
    ),
    "the cache forgets what was written": Fault(
        "papers/transformer.py",
        "        self.written = new\n",
        "        self.written = None\n",
        "papers/test_transformer.py::test_decoding_with_a_cache_gives_the_logits_of_decoding_without",
    ),
    "position embeddings are not added": Fault(
        "papers/vit.py",
        "self.pooling.prepend(self.patches(images)) + self._places()",
        "self.pooling.prepend(self.patches(images))",
        "papers/test_vit.py::test_the_encoder_does_not_know_where_patches_are_but_for_their_positions",
    ),
    "a ViT whose output does not depend on the image": Fault(
        "papers/vit.py",
        "return self.head(self.read(self.tokens(images)))",
        "return self.head(self.read(self.tokens(images) * 0))",
        "papers/test_vit.py::test_an_untrained_model_answers_otherwise_to_another_image",
    ),
    "positions are interpolated without antialiasing": Fault(
        "papers/vit.py",
        'mode="bicubic", antialias=True',
        'mode="bicubic"',
        "papers/test_vit.py::test_resized_positions_equal_those_of_timm",
    ),
    "a patch is flattened channel last": Fault(
        "papers/vit.py",
        "(ch py px)",
        "(py px ch)",
        "papers/test_vit.py::test_patches_are_read_row_by_row_and_channel_first",
    ),
    "input channels of opposite sign cancel in a receptive field": Fault(
        "papers/why_attention.py",
        "gradient.square().sum(channel)",
        "gradient.sum(channel).square()",
        "papers/test_why_attention.py::test_the_field_of_an_image_is_the_norm_of_the_jacobian",
    ),
    "a layer's own stride widens its receptive field": Fault(
        "papers/why_attention.py",
        "        width += (kernel - 1) * dilation * step\n        step *= stride\n",
        "        step *= stride\n        width += (kernel - 1) * dilation * step\n",
        "papers/test_why_attention.py::test_what_the_formula_says_is_what_derivatives_find",
    ),
    "padding forgets the dilation": Fault(
        "papers/why_attention.py",
        "padding=kernel // 2 * dilation",
        "padding=kernel // 2",
        "papers/test_why_attention.py::test_a_convolution_is_a_sum_over_its_taps",
    ),
    "one dependence is taken for all": Fault(
        "papers/why_attention.py",
        "(dependence(stack, x) > 0).all()",
        "(dependence(stack, x) > 0).any()",
        "papers/test_why_attention.py::test_a_path_that_does_not_exist_is_not_found",
    ),
    "the mask is dropped where a bias is added": Fault(
        "papers/positional_encoding.py",
        "attention(q, k, v, mask=joined(self.bias(q, k), mask))",
        "attention(q, k, v, mask=self.bias(q, k))",
        "papers/test_positional_encoding.py::test_a_mask_is_obeyed_whatever_the_core",
    ),
    "offsets count from the key to the query": Fault(
        "papers/positional_encoding.py",
        "torch.arange(m, device=device) - torch.arange(n, device=device)[:, None]",
        "torch.arange(n, device=device)[:, None] - torch.arange(m, device=device)",
        "papers/test_positional_encoding.py::test_offsets_count_from_the_query_to_the_key",
    ),
    "rotary cuts its pairs in one layout and joins them in the other": Fault(
        "papers/positional_encoding.py",
        "even, odd = x[..., ::2], x[..., 1::2]",
        "even, odd = x.chunk(2, -1)",
        "papers/test_positional_encoding.py::test_rotary_equals_transformers_in_both_layouts",
    ),
    "conditional positions have no border": Fault(
        "papers/positional_encoding.py",
        '"circular"] = "zeros"',
        '"circular"] = "circular"',
        "papers/test_positional_encoding.py::test_one_row_is_a_convolution_along_the_sequence",
    ),
    "layer norm averages over the tokens": Fault(
        "papers/layer_norm.py",
        "centred = x - x.mean(-1, keepdim=True)",
        "centred = x - x.mean(-2, keepdim=True)",
        "papers/test_layer_norm.py::test_by_hand",
    ),
    "batch norm keeps the biased variance": Fault(
        "papers/layer_norm.py",
        "unbiased = var.detach() * len(tokens) / (len(tokens) - 1)",
        "unbiased = var.detach()",
        "papers/test_layer_norm.py::test_batch_norm_equals_pytorchs_in_training_and_in_evaluation",
    ),
    "PowerNorm divides by a statistic that has seen the batch": Fault(
        "papers/layer_norm.py",
        "torch.where(exact, square, self.running_square)",
        "torch.where(exact, square, self.running_square.lerp(square, 1 - self.alpha_forward))",
        "papers/test_layer_norm.py::test_what_an_output_depends_on",
    ),
    "PowerNorm forgets Gamma": Fault(
        "papers/layer_norm.py",
        "nu.mul_(1 - (1 - ctx.alpha) * gamma)",
        "nu.mul_(ctx.alpha)",
        "papers/test_layer_norm.py::test_power_norm_is_the_papers_algorithm_over_several_steps",
    ),
    "a distilled model forgets its second head": Fault(
        "papers/deit.py",
        "logits if self.training else logits.mean(dim=1)",
        "logits if self.training else logits[:, 0]",
        "papers/test_deit.py::test_evaluation_gives_the_mean_of_what_training_gives",
    ),
    "the temperature is not made up for": Fault(
        "papers/deit.py",
        "weight * tau**2 * divergence",
        "weight * divergence",
        "papers/test_deit.py::test_soft_distillation_is_equation_2_written_out",
    ),
    "the teacher judges the class head": Fault(
        "papers/deit.py",
        "own, taught = student.unbind(1)",
        "taught, own = student.unbind(1)",
        "papers/test_deit.py::test_labels_judge_the_first_output_and_the_teacher_the_second",
    ),
    "labels of CutMix ignore what the border cut off": Fault(
        "papers/deit.py",
        "kept = 1 - mixed[0, 0, rows, columns].numel() / mixed[0, 0].numel()",
        "kept = share",
        "papers/test_deit.py::test_targets_of_cutmix_say_what_share_of_the_pixels_is_whose",
    ),
    "windows are shifted the wrong way": Fault(
        "layers/windows.py",
        "x.roll([-by for by in self.shift], (1, 2))",
        "x.roll(self.shift, (1, 2))",
        "layers/test_windows.py::test_a_shift_brings_the_second_half_of_a_window_to_its_start",
    ),
    "the shift's mask hides nothing": Fault(
        "layers/windows.py",
        "pieces[:, :, None] == pieces[:, None, :]",
        "pieces[:, :, None] * 0 == pieces[:, None, :] * 0",
        "layers/test_windows.py::test_the_mask_lets_tokens_see_only_the_piece_that_they_came_with",
    ),
    "patches are merged row by row": Fault(
        "layers/windows.py",
        "(px py c)",
        "(py px c)",
        "layers/test_windows.py::test_four_neighbours_stand_side_by_side_column_by_column",
    ),
    "a larger window forgets the one it was trained in": Fault(
        "layers/windows.py",
        "/ max(t - 1, 1)",
        "/ max(w - 1, 1)",
        "layers/test_windows.py::test_the_continuous_bias_keeps_its_answers_in_a_larger_window",
    ),
    "V2 normalises what a branch reads": Fault(
        "papers/swin.py",
        "self.drop_path(self.norm(branch(x)))",
        "self.drop_path(branch(self.norm(x)))",
        "papers/test_swin.py::test_an_untrained_block_of_v2_adds_nothing_and_one_of_v1_does",
    ),
    "every block is shifted": Fault(
        "papers/swin.py",
        "shifted=j % 2 == 1",
        "shifted=True",
        "papers/test_swin.py::test_the_second_block_of_a_stage_is_shifted_by_half_a_window_unless_there_is_only_one",
    ),
    "the reduction reads one token of each window": Fault(
        "papers/pvt.py",
        "nn.Conv2d(dim, dim, ratio, stride=ratio)",
        "nn.Conv2d(dim, dim, 1, stride=ratio)",
        "papers/test_pvt.py::test_the_reduction_is_the_equation_reshape_then_linear_then_norm",
    ),
    "windows that should overlap lie side by side": Fault(
        "papers/pvt.py",
        "kernel=2 * stride - 1, padding=stride - 1)",
        "kernel=stride)",
        "papers/test_pvt.py::test_windows_overlap_by_three_pixels_in_the_first_stage_and_by_one_later",
    ),
    "chunks are put together in another order": Fault(
        "layers/chunking.py",
        "for chunk in x.split(size)]",
        "for chunk in x.split(size)][::-1]",
        "layers/test_chunking.py::test_in_chunks_the_answers_are_those_of_the_whole_batch",
    ),
    "hooks inside are not asked for": Fault(
        "layers/chunking.py",
        "if name and (module._forward_hooks",
        "if False and (module._forward_hooks",
        "layers/test_chunking.py::test_where_chunks_would_change_numbers_or_be_seen_they_are_refused",
    ),
    "a perceptron works in chunks unasked": Fault(
        "layers/mlp.py",
        "return self.dropout(self.contract(self.dropout(self.activation(self.expand(x)))))",
        "return torch.cat([self.contract(self.activation(self.expand(y))) for y in x.split(500)])",
        "test_contract.py::test_every_module_is_called_as_often_whatever_the_batch_and_gets_all_of_it",
    ),
    "maps for dense tasks come before the last norm": Fault(
        "papers/pvt.py",
        "rearrange(self.norm(self.blocks(self.embed(x)))",
        "rearrange(self.blocks(self.embed(x))",
        "papers/test_pvt.py::test_version_two_equals_timm_in_outputs_and_gradients",
    ),
    "the class token has the place of the first patch": Fault(
        "papers/pvt.py",
        "(self.token + self.position).expand",
        "self.token.expand",
        "papers/test_pvt.py::test_the_class_token_comes_first_with_its_own_position_and_only_it_is_read",
    ),
    "the pooled reduction takes the maximum": Fault(
        "papers/pvt.py",
        "nn.AdaptiveAvgPool2d(size)",
        "nn.AdaptiveMaxPool2d(size)",
        "papers/test_pvt.py::test_the_pooled_reduction_has_as_many_keys_at_every_size_and_reads_every_token",
    ),
    "a dot product that is not divided by the number of positions": Fault(
        "papers/non_local.py",
        "phi.mT @ (g / phi.shape[1])",
        "phi.mT @ g",
        "papers/test_non_local.py::test_showing_everything_twice_changes_nothing",
    ),
    "prefix sums over the wrong end": Fault(
        "papers/non_local.py",
        "sort(dim=1, descending=True)",
        "sort(dim=1)",
        "papers/test_non_local.py::test_sums_of_rectified_pairs_by_hand",
    ),
    "a new non-local block that speaks": Fault(
        "papers/non_local.py",
        "nn.init.zeros_(last.weight)",
        "nn.init.ones_(last.weight)",
        "papers/test_non_local.py::test_a_new_block_is_the_identity",
    ),
    "time is subsampled as well": Fault(
        "papers/non_local.py",
        "(1, subsample, subsample) if dims == 3 else (subsample,) * dims",
        "(subsample,) * dims",
        "papers/test_non_local.py::test_a_clip_of_one_frame_held_still_is_read_as_the_image",
    ),
    "pooling after the embedding": Fault(
        "papers/non_local.py",
        "return embed(pool(x))",
        "return pool(embed(x))",
        "papers/test_non_local.py::test_pooling_and_embedding_change_places_only_where_a_pixel_wins_in_all_channels",
    ),
    "the queries are not whitened": Fault(
        "papers/dnl.py",
        "return _attend(whitened(self.query(x)), whitened(self.key(x)), v, self.scale)",
        "return _attend(self.query(x), whitened(self.key(x)), v, self.scale)",
        "papers/test_dnl.py::test_outputs_and_gradients_equal_loops_over_positions",
    ),
    "whitening takes the mean over features": Fault(
        "papers/dnl.py",
        "return x - x.mean(dim=-2, keepdim=True)",
        "return x - x.mean(dim=-1, keepdim=True)",
        "papers/test_dnl.py::test_two_positions_by_hand",
    ),
    "gamma scales both halves": Fault(
        "papers/dnl.py",
        "return self.gamma * self.pairwise(x, v) + self.unary(x, v)",
        "return self.gamma * (self.pairwise(x, v) + self.unary(x, v))",
        "papers/test_dnl.py::test_a_new_block_starts_without_its_pairwise_half_but_not_without_its_unary_half",
    ),
    "the block forgets what it got": Fault(
        "papers/dnl.py",
        "return x + y.mT.unflatten(2, x.shape[2:])",
        "return y.mT.unflatten(2, x.shape[2:])",
        "papers/test_dnl.py::test_outputs_and_gradients_equal_loops_over_positions",
    ),
    "the maximum is an average": Fault(
        "papers/cbam.py",
        "return x.amax(over, keepdim=True)",
        "return x.mean(over, keepdim=True)",
        "papers/test_cbam.py::test_the_maximum_of_one_bright_place_reaches_the_gate_and_its_average_hardly_does",
    ),
    "the checksum of a file is not compared": Fault(
        "hub.py",
        "if wrong := expected - {found}:",
        "if wrong := set[str]():",
        "weights/test_hub.py::test_a_file_that_is_not_the_listed_one_is_refused",
    ),
    "queries and values change places when weights are written": Fault(
        "weights/layouts.py",
        "pieces = parts[0].chunk(len(match.theirs))",
        "pieces = parts[0].chunk(len(match.theirs))[::-1]",
        "weights/test_layouts.py::test_there_and_back_is_the_identity",
    ),
    "windows are seen as if they had not been shifted": Fault(
        "seeing/places.py",
        "module.windows.cut(numbers)",
        "module.windows.cut(numbers.roll(module.windows.shift, (1, 2)))",
        "test_seeing.py::test_windows_are_put_back_where_brute_force_over_the_padded_map_has_them",
    ),
    "the centre is cut from a corner": Fault(
        "images.py",
        "top, left = round((rows - y) / 2), round((columns - x) / 2)",
        "top, left = 0, 0",
        "test_images.py::test_the_middle_is_cut_and_all_of_it_is_squashed",
    ),
    "a map is added to itself": Fault(
        "papers/cbam.py",
        "return spatial(x) * x",
        "return spatial(x) * x + x",
        "papers/test_cbam.py::test_a_map_is_multiplied_by_its_gate_not_added_to_itself",
    ),
}


@cache
def on_the_right_code() -> dict[str, str]:
    """What becomes of all these tests, and of each of their parameters, without a fault."""
    return outcomes(sorted({fault.caught_by for fault in FAULTS.values()}), ROOT / "src", stop=False)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_seeded_fault_is_caught_by_the_test_that_is_about_it(fault, tmp_path):
    before = {test: result for test, result in on_the_right_code().items() if fault.caught_by in test}
    assert "passed" in before.values(), f"{fault.caught_by} does not run"
    assert {*before.values()} <= {"passed", "skipped"}
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    file = tmp_path / "src/attention_notes" / fault.file
    text = file.read_text(encoding="utf-8")
    assert fault.right in text, "the fault no longer fits the code: plant it anew"
    file.write_text(text.replace(fault.right, fault.wrong), encoding="utf-8")
    found = outcomes([fault.caught_by], tmp_path / "src")
    assert "failed" in found.values(), f"{fault.caught_by} passes with {fault.wrong!r} for {fault.right!r}: {found}"


def test_a_test_that_cannot_be_collected_does_not_pass_for_a_catch(tmp_path):
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (tmp_path / "src/attention_notes/layers/drop_path.py").write_text("import nothing\n", encoding="utf-8")
    found = outcomes(["layers/test_drop_path.py::test_evaluation_drops_nothing"], tmp_path / "src")
    assert {*found.values()} == {"error"}
