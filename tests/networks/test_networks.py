import pytest
import torch
from torch import nn

from brain_tumor.networks import NETWORKS, build, networks_of
from brain_tumor.networks.blocks import DepthwiseConv2d, Mish, Perceptron, upsample, weigh
from brain_tumor.networks.residual_attention_unet import ResidualBlock
from brain_tumor.networks.trained import TrainedNetwork

PARAMETERS = {
    "classic_unet": {8: 344_227, 16: 1_375_043, 32: 5_496_451, 64: 21_978_371},
    "improved_unet": {8: 214_043, 16: 799_075, 32: 3_082_739, 64: 12_104_467},
    "attention_unet": {8: 225_287, 16: 843_319, 32: 3_258_263, 64: 12_803_671},
    "residual_attention_unet": {8: 419_203, 16: 1_584_515, 32: 6_155_395, 64: 24_258_179},
}
SEGMENTATION = networks_of("segmentation")


@pytest.fixture(params=SEGMENTATION)
def network(request):
    torch.manual_seed(0)
    return build(request.param, n_filters=8)


@pytest.mark.parametrize(("name", "n_filters", "count"), [(n, f, c) for n, counts in PARAMETERS.items() for f, c in counts.items()])
def test_parameter_counts_are_the_references(name, n_filters, count):
    assert sum(p.numel() for p in build(name, n_filters=n_filters).parameters()) == count


def test_residual_attention_unet_is_the_reference_but_for_its_head():
    network = build("residual_attention_unet", out_channels=1, n_filters=32)
    network.head = ResidualBlock(32, 1)
    assert sum(p.numel() for p in network.parameters()) == 6_155_632


def test_every_network_is_pinned():
    assert set(PARAMETERS) == set(networks_of("segmentation"))


def test_gives_logits_of_the_inputs_size(network):
    for height, width in ((32, 32), (48, 16)):
        logits = network(torch.randn(2, 4, height, width))
        assert logits.shape == (2, 3, height, width)
        assert logits.min() < 0 < logits.max()


def test_channels_follow_the_data_set():
    for name in SEGMENTATION:
        assert build(name, in_channels=3, out_channels=1, n_filters=8)(torch.randn(1, 3, 32, 32)).shape == (1, 1, 32, 32)


def test_every_parameter_gets_a_gradient(network):
    network(torch.randn(2, 4, 32, 32)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_evaluation_does_not_mix_a_batch(network):
    network.eval()
    x = torch.randn(3, 4, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(network(x)[1], network(x[1:2])[0], atol=1e-5)


def test_sides_that_cannot_be_halved_are_refused(network):
    with pytest.raises(ValueError, match="multiples of 16, got 241x240; set `slice_size` to 256"):
        network(torch.randn(1, 4, 241, 240))


def test_trained_network_gives_back_its_logits(network):
    weights = {k: v.clone() for k, v in network.state_dict().items()}
    name = next(n for n, (_, c) in NETWORKS.items() if c == type(network).__name__)
    trained = TrainedNetwork(name, {"n_filters": 8}, {}, (weights,))
    x = torch.randn(1, 4, 32, 32)
    assert torch.equal(trained.module()(x), network.eval()(x))
    assert trained.parameters == PARAMETERS[name][8]


def test_unknown_names_and_sizes_are_refused():
    with pytest.raises(ValueError, match="did you mean 'classic_unet'"):
        build("clasic_unet")
    with pytest.raises(TypeError, match="n_filter"):
        build("classic_unet", n_filter=8)


@pytest.mark.parametrize("channels", [4, 16, 24])
@pytest.mark.parametrize("make", [lambda n: DepthwiseConv2d(n, 7), lambda n: Perceptron(nn.Conv2d(n, 40, 1), nn.ReLU(), nn.Conv2d(40, 8, 1))])
def test_fast_gradients_are_the_plain_ones(make, channels):
    """In bf16, no further from fp32 than torch's own bf16 is, but for chance; in fp32 they are torch's."""
    torch.manual_seed(0)
    fast = make(channels)
    plain = nn.Sequential(*fast) if isinstance(fast, Perceptron) else nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
    plain.load_state_dict(fast.state_dict())
    x = torch.randn(3, channels, 20, 12).contiguous(memory_format=torch.channels_last).requires_grad_()
    gradient = torch.randn(3, 8 if isinstance(fast, Perceptron) else channels, 20, 12)

    def outcome(layer, bf16):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            y = layer(x)
        return (y, *torch.autograd.grad((y.float() * gradient).sum(), [x, *layer.parameters()]))

    exact, ours, torchs = outcome(plain, False), outcome(fast, True), outcome(plain, True)
    for truth, one, other in zip(exact, ours, torchs, strict=True):
        assert one.dtype == other.dtype
        assert (one - truth).norm() <= 1.2 * (other - truth).norm() + 0.001 * truth.norm()
    assert all(torch.equal(one, other) for one, other in zip(outcome(fast, False), exact, strict=True))


def test_fast_mish_is_mish():
    x = torch.linspace(-40, 40, 4001).bfloat16().requires_grad_()
    exact = x.detach().double().requires_grad_()
    truth = nn.functional.mish(exact)
    with torch.autocast("cpu", torch.bfloat16):
        found = Mish()(x)
    slope, true_slope = (torch.autograd.grad(y.sum(), at)[0] for y, at in ((found, x), (truth, exact)))
    assert torch.allclose(found.double(), truth, rtol=0.005, atol=1e-6)
    assert torch.allclose(slope.double(), true_slope, atol=0.01)
    assert torch.equal(Mish()(x), nn.functional.mish(x))


@pytest.mark.parametrize("channels", [5, 40])
def test_weighing_is_a_product(channels):
    x, weight = torch.randn(2, channels, 6, 4, requires_grad=True), torch.rand(2, 1, 6, 4, requires_grad=True)
    gradient = torch.randn_like(x)
    for one, other in zip(*([y, *torch.autograd.grad(y, [x, weight], gradient)] for y in (weigh(x, weight), x * weight)), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_upsampling_is_torchs():
    x = torch.randn(2, 3, 5, 7, requires_grad=True)
    plain = torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
    assert torch.equal(upsample(x), plain)
    gradient = torch.randn_like(plain)
    assert torch.equal(torch.autograd.grad(upsample(x), x, gradient)[0], torch.autograd.grad(plain, x, gradient)[0])
