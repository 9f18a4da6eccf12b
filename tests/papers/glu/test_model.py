"""Gated feed-forward networks against timm, transformers and PyTorch, the equations, and the counts of the paper."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attention_notes.claims import close
from attention_notes.inspect import count_activations, count_macs, count_parameters
from attention_notes.nn.mlp import MLP
from attention_notes.papers.glu import (
    FFN,
    GATES,
    GLU,
    NETWORKS,
    GatedFFN,
    Swish,
    as_in_t5,
    two_thirds,
    with_gates,
)
from attention_notes.papers.transformer import Encoder, PreNorm, transformer
from attention_notes.papers.vit import vit

BATCH, TOKENS, WIDTH, HIDDEN = 2, 5, 7, 11
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
every_gate = pytest.mark.parametrize("name", GATES)
every_network = pytest.mark.parametrize("name", NETWORKS)
tanh_gelu = partial(nn.GELU, approximate="tanh")


def randomised(module, dtype=torch.float32):
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.7)
    return module.to(dtype)


def tokens(dtype=torch.float32):
    return torch.randn(BATCH, TOKENS, WIDTH, dtype=dtype, requires_grad=True)


def assert_same(ours, theirs, pairs, x):
    """Outputs, and gradients with respect to the input and to ``pairs`` of parameters, ours stacked as theirs are."""
    a, b = ours(x), theirs(x)
    assert close(a, b)
    probe = torch.randn_like(a)
    mine = [p for group, _ in pairs for p in group]
    found = torch.autograd.grad((a * probe).sum(), [x, *mine])
    wanted = torch.autograd.grad((b * probe).sum(), [x, *(parameter for _, parameter in pairs)])
    assert close(found[0], wanted[0])
    at = 1
    for (group, _), gradient in zip(pairs, wanted[1:], strict=True):
        assert close(torch.cat(found[at : at + len(group)]), gradient)
        at += len(group)


def filled(pairs):
    """Copy our parameters into theirs."""
    with torch.no_grad():
        for group, parameter in pairs:
            parameter.copy_(torch.cat([*group]))
    return pairs


# --- references


@DTYPES
@every_gate
@pytest.mark.parametrize("gate_last", [True, False])
def test_gated_networks_equal_timms_with_both_maps_in_one_whichever_half_is_the_gate(name, gate_last, dtype):
    from timm.layers.mlp import GluMlp

    ours = randomised(GatedFFN(WIDTH, hidden=HIDDEN, activation=GATES[name], bias=True), dtype)
    theirs = GluMlp(WIDTH, 2 * HIDDEN, act_layer=GATES[name], gate_last=gate_last).to(dtype)
    gate, value = ours.glu.gate, ours.glu.value
    first, second = (value, gate) if gate_last else (gate, value)
    pairs = [
        ((first.weight, second.weight), theirs.fc1.weight),
        ((first.bias, second.bias), theirs.fc1.bias),
        ((ours.contract.weight,), theirs.fc2.weight),
        ((ours.contract.bias,), theirs.fc2.bias),
    ]
    assert_same(ours, theirs, filled(pairs), tokens(dtype))


@DTYPES
def test_swiglu_equals_timms_with_two_maps(dtype):
    from timm.layers.mlp import SwiGLU

    ours = randomised(NETWORKS["SwiGLU"](WIDTH, hidden=HIDDEN, bias=True), dtype)
    theirs = SwiGLU(WIDTH, HIDDEN).to(dtype)
    layers = [(ours.glu.gate, theirs.fc1_g), (ours.glu.value, theirs.fc1_x), (ours.contract, theirs.fc2)]
    pairs = [((getattr(a, kind),), getattr(b, kind)) for a, b in layers for kind in ("weight", "bias")]
    assert_same(ours, theirs, filled(pairs), tokens(dtype))


@DTYPES
@pytest.mark.parametrize(
    ("projection", "activation"),
    [("gated-gelu", tanh_gelu), ("gated-silu", nn.SiLU), ("gated-relu", nn.ReLU), ("gated-gelu_python", nn.GELU)],
)
def test_gated_networks_equal_those_of_transformers_t5(projection, activation, dtype):
    from transformers import T5Config
    from transformers.models.t5.modeling_t5 import T5DenseGatedActDense

    config = T5Config(d_model=WIDTH, d_ff=HIDDEN, feed_forward_proj=projection)
    ours = randomised(GatedFFN(WIDTH, hidden=HIDDEN, activation=activation), dtype)
    theirs = T5DenseGatedActDense(config).to(dtype).eval()
    layers = [(ours.glu.gate, theirs.wi_0), (ours.glu.value, theirs.wi_1), (ours.contract, theirs.wo)]
    assert_same(ours, theirs, filled([((a.weight,), b.weight) for a, b in layers]), tokens(dtype))


@DTYPES
@pytest.mark.parametrize(("projection", "activation"), [("relu", nn.ReLU), ("silu", nn.SiLU)])
def test_plain_networks_equal_those_of_transformers_t5(projection, activation, dtype):
    from transformers import T5Config
    from transformers.models.t5.modeling_t5 import T5DenseActDense

    config = T5Config(d_model=WIDTH, d_ff=HIDDEN, feed_forward_proj=projection)
    ours = randomised(FFN(WIDTH, hidden=HIDDEN, activation=activation), dtype)
    theirs = T5DenseActDense(config).to(dtype).eval()
    pairs = [((ours.expand.weight,), theirs.wi.weight), ((ours.contract.weight,), theirs.wo.weight)]
    assert_same(ours, theirs, filled(pairs), tokens(dtype))


@DTYPES
def test_glu_equals_pytorchs_whose_gate_is_the_second_half(dtype):
    ours = randomised(GLU(WIDTH, hidden=HIDDEN, bias=True), dtype)

    def theirs(x):
        weight = torch.cat([ours.value.weight, ours.gate.weight])
        return F.glu(F.linear(x, weight, torch.cat([ours.value.bias, ours.gate.bias])))

    assert_same(ours, theirs, [((p,), p) for p in ours.parameters()], tokens(dtype))


def logistic(z):
    return 1 / (1 + (-z).exp())


LITERAL = {
    "GLU": logistic,
    "Bilinear": lambda z: z,
    "ReGLU": lambda z: z if z > 0 else 0 * z,
    "GEGLU": lambda z: z * (1 + torch.erf(z / 2**0.5)) / 2,
    "SwiGLU": lambda z: z * logistic(z),
}


@DTYPES
@every_gate
def test_outputs_and_gradients_equal_equation_6_written_as_loops(name, dtype):
    ours = randomised(NETWORKS[name](WIDTH, hidden=HIDDEN), dtype)

    def literal(x):
        out = torch.zeros_like(x)
        for b in range(BATCH):
            for i in range(TOKENS):
                for j in range(HIDDEN):
                    gate = LITERAL[name](sum(x[b, i] * ours.glu.gate.weight[j]))
                    unit = gate * sum(x[b, i] * ours.glu.value.weight[j])
                    out = out.index_put((torch.tensor(b), torch.tensor(i)), unit * ours.contract.weight[:, j], True)
        return out

    assert_same(ours, literal, [((p,), p) for p in ours.parameters()], tokens(dtype))


# --- what follows from the equations


def test_two_hidden_units_by_hand():
    """xW = (1, -1) and xV = (3, 2): the gates decide what is left of the values."""
    wanted = {
        "GLU": [3 * 0.7310586, 2 * 0.2689414],
        "Bilinear": [3.0, -2.0],
        "ReGLU": [3.0, 0.0],
        "GEGLU": [3 * 0.8413447, -2 * 0.1586553],
        "SwiGLU": [3 * 0.7310586, -2 * 0.2689414],
    }
    for name, gate in GATES.items():
        layer = GLU(2, hidden=2, activation=gate)
        layer.gate.weight.data = torch.tensor([[1.0, 0.0], [1.0, -1.0]])
        layer.value.weight.data = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
        assert close(layer(torch.tensor([[1.0, 2.0]])), torch.tensor([wanted[name]]))


def test_with_one_matrix_for_gate_and_value_glu_is_swish_and_reglu_is_relu_squared():
    x = tokens()
    glu, regl = (randomised(GLU(WIDTH, hidden=HIDDEN, activation=GATES[name])) for name in ("GLU", "ReGLU"))
    for layer in (glu, regl):
        layer.value.load_state_dict(layer.gate.state_dict())
    assert close(glu(x), F.silu(glu.gate(x)))
    assert close(regl(x), regl.gate(x).relu().square())


@pytest.mark.parametrize(("name", "degree"), [("ReLU", 1), ("Bilinear", 2), ("ReGLU", 2)])
def test_without_biases_the_output_grows_with_a_power_of_the_input(name, degree):
    network, x = randomised(NETWORKS[name](WIDTH, hidden=HIDDEN), torch.float64), tokens(torch.float64)
    assert close(network(3 * x), 3**degree * network(x))


def test_bilinear_does_not_know_the_sign_of_its_input():
    network, x = randomised(NETWORKS["Bilinear"](WIDTH, hidden=HIDDEN)), tokens()
    assert close(network(-x), network(x))


@every_gate
def test_the_gradient_of_the_value_is_the_gate(name):
    """The path that Dauphin et al. call linear: no derivative of the non-linearity is on it."""
    gate, value = (torch.randn(HIDDEN, requires_grad=True) for _ in range(2))
    opened = GATES[name]()(gate)
    (found,) = torch.autograd.grad((opened * value).sum(), value)
    assert close(found, opened)


def test_beta_leads_from_half_the_bilinear_layer_by_way_of_swiglu_to_reglu():
    x = tokens()
    layers = {b: GLU(WIDTH, hidden=HIDDEN, activation=partial(Swish, beta=b)) for b in (0.0, 1.0, 1e4)}
    known = {n: GLU(WIDTH, hidden=HIDDEN, activation=GATES[n]) for n in ("Bilinear", "SwiGLU", "ReGLU")}
    state = randomised(layers[1.0]).state_dict()
    for layer in (*layers.values(), *known.values()):
        layer.load_state_dict(state)
    assert close(layers[0.0](x), known["Bilinear"](x) / 2)
    assert close(layers[1.0](x), known["SwiGLU"](x))
    assert (layers[1e4](x) - known["ReGLU"](x)).abs().max() < 1e-3


@every_network
def test_each_token_is_computed_by_itself(name):
    network, x = randomised(NETWORKS[name](WIDTH, hidden=HIDDEN)), tokens()
    order = torch.randperm(TOKENS)
    assert close(network(x[:, order]), network(x)[:, order])
    assert close(network(x[0, 0]), network(x)[0, 0])


def test_hidden_units_and_outputs_are_dropped_in_training_only():
    network = randomised(NETWORKS["GEGLU"](WIDTH, hidden=HIDDEN, dropout=0.5))
    x = torch.ones(400, WIDTH)
    dropped = (network(x) == 0).float().mean().item()
    assert dropped == pytest.approx(0.5, abs=0.05)
    network.contract.weight.data.fill_(1.0)
    assert len(network(x).detach().mul(1e3).round().unique()) > 20  # of hidden units, too: many different sums
    assert close(network.eval()(x), network(x))


# --- counts


@every_gate
def test_at_the_sizes_of_the_paper_three_matrices_have_the_weights_and_the_cost_of_two(name):
    """Section 3.1: d_model = 768, d_ff = 3072 and 2048."""
    with torch.device("meta"):
        plain, gated, x = FFN(768, hidden=3072), NETWORKS[name](768, hidden=2048), torch.empty(1, 768)
    assert two_thirds(3072) == 2048
    assert count_parameters(plain) == count_parameters(gated) == 4_718_592
    assert count_macs(plain, x) == count_macs(gated, x) == 4_718_592
    assert (count_activations(plain, x), count_activations(gated, x)) == (3840, 4864)


def test_two_thirds_are_rounded_up_as_llamas_authors_do():
    """``FeedForward`` in ``llama/model.py`` at 0504cf4; 11,008 is also the default of transformers' LlamaConfig."""
    assert two_thirds(4 * 4096, multiple=256) == 11_008
    for width in (4096, 5120, 6656, 8192):
        hidden = int(2 * 4 * width / 3)
        assert two_thirds(4 * width, multiple=256) == 256 * ((hidden + 255) // 256)
    assert [two_thirds(hidden) for hidden in (1, 2, 3, 4)] == [1, 2, 2, 3]


def test_the_width_is_that_of_transformers_llama():
    from transformers import LlamaConfig

    config = LlamaConfig()
    assert config.intermediate_size == two_thirds(4 * config.hidden_size, multiple=256)


# --- the start


def cut_off(weight):
    """Whether a weight looks normal with a variance of one over its inputs before it was cut at two deviations."""
    deviation = weight.shape[1] ** -0.5
    inside = weight.abs().max() <= 2 * deviation
    return bool(inside) and weight.std().item() == pytest.approx(0.8796 * deviation, rel=0.03)


@every_network
def test_networks_start_as_the_authors_code_does(name):
    network = NETWORKS[name](96, hidden=256, bias=True)
    linears = [module for module in network.modules() if isinstance(module, nn.Linear)]
    assert len(linears) == (3 if name in GATES else 2)
    assert all(cut_off(linear.weight) for linear in linears)
    assert not any(linear.bias.any() for linear in linears)


@every_gate
def test_where_transformers_t5_starts_the_deviation_is_the_same_before_the_cut(name):
    from transformers import T5Config, T5EncoderModel

    sizes = {"d_model": 96, "d_ff": 256, "d_kv": 8, "num_heads": 2, "num_layers": 1, "vocab_size": 11}
    model = T5EncoderModel(T5Config(**sizes, feed_forward_proj="gated-gelu"))
    theirs = model.encoder.block[0].layer[-1].DenseReluDense
    ours = NETWORKS[name](96, hidden=256)
    for a, b in ((ours.glu.gate, theirs.wi_0), (ours.glu.value, theirs.wi_1), (ours.contract, theirs.wo)):
        assert a.weight.std().item() == pytest.approx(0.8796 * b.weight.std().item(), rel=0.04)


def test_a_trunk_draws_all_three_matrices_in_its_own_way():
    """ViT: Glorot's uniform."""
    model = vit("Ti/16", depth=1, num_classes=5, mlp=NETWORKS["SwiGLU"])
    mlp = model.blocks[0].mlp
    for linear in (mlp.glu.gate, mlp.glu.value, mlp.contract):
        bound = (6 / sum(linear.weight.shape)) ** 0.5
        assert 0.99 * bound < linear.weight.abs().max() <= bound


def test_what_is_no_linear_map_is_left_alone():
    norm = nn.LayerNorm(3)
    as_in_t5(norm)
    assert (norm.weight == 1).all()


# --- in a model


def encoder(**options):
    return Encoder(WIDTH * 2, layers=2, residual=PreNorm, heads=2, hidden=24, dropout=0.0, **options)


@every_network
def test_every_perceptron_of_a_model_is_replaced(name):
    model = with_gates(encoder(), NETWORKS[name])
    assert not any(isinstance(module, MLP) for module in model.modules())
    networks = [layer.mlp for layer in model.layers]
    assert all(n.contract.in_features == 16 and n.contract.out_features == WIDTH * 2 for n in networks)
    x = torch.randn(BATCH, TOKENS, WIDTH * 2)
    layer = model.layers[0]
    half = x + layer.attention(layer.residuals[0].norm(x))
    assert close(layer(x), half + networks[0](layer.residuals[1].norm(half)))


def test_what_is_put_in_has_the_mode_the_dropout_and_the_precision_of_what_was_there():
    model = vit("Ti/16", depth=1, num_classes=5, dropout=0.25).double().eval()
    mlp = with_gates(model, NETWORKS["GEGLU"], hidden=lambda hidden: hidden // 2).blocks[0].mlp
    assert not mlp.training
    assert not mlp.glu.training
    assert mlp.dropout.p == 0.25
    assert mlp.contract.weight.dtype == torch.float64
    assert mlp.contract.in_features == 384


def test_a_transformer_with_gates_has_the_weights_of_one_without_but_for_the_biases():
    with torch.device("meta"):
        plain, gated = (transformer("base", vocabulary=23, hidden=1536) for _ in range(2))
        with_gates(gated, NETWORKS["SwiGLU"])
    biases = sum(m.expand.bias.numel() + m.contract.bias.numel() for m in plain.modules() if isinstance(m, MLP))
    assert biases == 12 * (1536 + 512)
    assert count_parameters(gated) == count_parameters(plain) - biases


def test_bad_sizes_are_named(unchecked):
    with pytest.raises(ValueError, match="hidden=0 and multiple=1 must both be 1 or more"):
        two_thirds(0)
    with pytest.raises(ValueError, match="hidden=3 and multiple=-1"):
        two_thirds(3, multiple=-1)
    with pytest.raises(ValueError, match="Linear has no MLP inside"):
        with_gates(nn.Linear(2, 3), NETWORKS["GLU"])
