import pytest
import torch
from processor import needs_bf16

from brain_tumor.networks import NETWORKS, build, networks_of
from brain_tumor.networks.blocks import upsample
from brain_tumor.networks.residual_attention_unet import ResidualBlock
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.training.device import Device

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


@pytest.mark.parametrize(
    ("name", "n_filters", "count"), [(n, f, c) for n, counts in PARAMETERS.items() for f, c in counts.items()]
)
def test_parameter_counts_are_the_references(name, n_filters, count):
    assert sum(p.numel() for p in build(name, n_filters=n_filters).parameters()) == count


def test_residual_attention_unet_is_the_reference_but_for_its_head():
    network = build("residual_attention_unet", out_channels=1, n_filters=32)
    network.head = ResidualBlock(32, 1)
    assert sum(p.numel() for p in network.parameters()) == 6_155_632


def test_groups_divide_the_channels():
    assert build("residual_attention_unet", n_filters=12)(torch.zeros(1, 4, 32, 32)).shape == (1, 3, 32, 32)


def test_every_network_is_pinned():
    assert set(PARAMETERS) == set(networks_of("segmentation"))


def test_gives_logits_of_the_inputs_size(network):
    for height, width in ((32, 32), (48, 16)):
        logits = network(torch.randn(2, 4, height, width))
        assert logits.shape == (2, 3, height, width)
        assert logits.min() < 0 < logits.max()


def test_channels_follow_the_data_set():
    for name in SEGMENTATION:
        assert build(name, in_channels=3, out_channels=1, n_filters=8)(torch.randn(1, 3, 32, 32)).shape == (
            1,
            1,
            32,
            32,
        )


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


def test_upsampling_is_torchs():
    x = torch.randn(2, 3, 5, 7, requires_grad=True)
    plain = torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
    assert torch.equal(upsample(x), plain)
    gradient = torch.randn_like(plain)
    found, expected = (torch.autograd.grad(y, x, gradient)[0] for y in (upsample(x), plain))
    # Sums of up to nine products, in another order where channels come last.
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=needs_bf16)])
@pytest.mark.parametrize("name", SEGMENTATION)
def test_narrow_networks_learn_from_large_slices(name, precision):
    """torch 2.13's gradient of a 1x1 convolution with stride 2 and fewer than 16 channels corrupts memory.

    The process dies at 64 x 64.
    """
    device = Device("cpu", {"fp32": "32-true", "bf16": "bf16-mixed"}[precision])
    network = device.place(build(name, n_filters=8))
    for _ in range(3):
        with device.autocast():
            logits = network(device.place_batch(torch.randn(4, 4, 64, 64)))
        logits.float().square().mean().backward()
    assert all(value.grad.isfinite().all() for value in network.parameters())
