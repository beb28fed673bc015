import copy
import math

import pytest
import torch
from processor import needs_bf16, needs_training_in_bf16
from torch import nn

from brain_tumor.networks import cpu
from brain_tumor.networks.cpu import (
    DepthwiseConv2d,
    GroupNorm,
    Mish,
    PointwiseMLP,
    apply_gate,
    compute_depthwise_in_fp32,
)


@needs_bf16
@pytest.mark.parametrize("channels", [4, 16, 24])
@pytest.mark.parametrize(
    "make",
    [lambda n: DepthwiseConv2d(n, 7), lambda n: PointwiseMLP(nn.Conv2d(n, 40, 1), nn.ReLU(), nn.Conv2d(40, 8, 1))],
)
def test_fast_gradients_are_the_plain_ones(make, channels):
    """In bf16, no further from fp32 than torch's own bf16 is, but for chance; in fp32 they are torch's."""
    torch.manual_seed(0)
    fast = make(channels)
    plain = (
        nn.Sequential(*fast)
        if isinstance(fast, PointwiseMLP)
        else nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
    )
    plain.load_state_dict(fast.state_dict())
    x = torch.randn(3, channels, 20, 12).contiguous(memory_format=torch.channels_last).requires_grad_()
    gradient = torch.randn(3, 8 if isinstance(fast, PointwiseMLP) else channels, 20, 12)

    def outcome(layer, bf16):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            y = layer(x)
        return (y, *torch.autograd.grad((y.float() * gradient).sum(), [x, *layer.parameters()]))

    exact, ours, torchs = outcome(plain, False), outcome(fast, True), outcome(plain, True)
    for truth, one, other in zip(exact, ours, torchs, strict=True):
        assert one.dtype == other.dtype
        assert (one - truth).norm() <= 1.2 * (other - truth).norm() + 0.001 * truth.norm()
    assert all(torch.equal(one, other) for one, other in zip(outcome(fast, False), exact, strict=True))


@pytest.mark.parametrize(("channels", "groups", "mean"), [(16, 8, 0.0), (24, 3, 5.0), (6, 6, -1.0)])
def test_fast_group_norm_is_group_norm(channels, groups, mean):
    """Off fp64 by what bf16 rounds; in fp32 it is torch's."""
    torch.manual_seed(0)
    x = (
        (mean + 2 * torch.randn(3, channels, 40, 24))
        .bfloat16()
        .contiguous(memory_format=torch.channels_last)
        .requires_grad_()
    )
    gradient = torch.randn_like(x)
    fast = GroupNorm(groups, channels)
    for parameter in fast.parameters():
        nn.init.normal_(parameter)
    exact = nn.GroupNorm(groups, channels).double()
    exact.load_state_dict(fast.state_dict())
    at = x.detach().double().requires_grad_()
    truth = exact(at)
    with torch.autocast("cpu", torch.bfloat16):
        found = fast(x)
    assert "_GroupNorm" in type(found.grad_fn).__name__
    expected = torch.autograd.grad(truth, [at, *exact.parameters()], gradient.double())
    for one, other in zip(
        (found, *torch.autograd.grad(found, [x, *fast.parameters()], gradient)), (truth, *expected), strict=True
    ):
        assert (one.double() - other).norm() < 0.01 * other.norm()
    assert torch.equal(fast(x.float()), nn.functional.group_norm(x.float(), groups, fast.weight, fast.bias))


@pytest.mark.parametrize("shape", [(4001,), (7, 20_000), (5, 3, 100, 130), (0, 3)])
def test_fast_mish_is_mish(shape):
    """In one part, in parts of which the last is smaller, in parts of one."""
    x = torch.linspace(-40, 40, math.prod(shape)).bfloat16().reshape(shape)
    x = (x.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else x).requires_grad_()
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
    for one, other in zip(
        *([y, *torch.autograd.grad(y, [x, weight], gradient)] for y in (apply_gate(x, weight), x * weight)), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-6)


def test_a_batch_may_be_empty():
    """As that of a process for which no slice was left."""
    norm = GroupNorm(2, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert norm(torch.zeros(0, 4, 32, 32, dtype=torch.bfloat16)).shape == (0, 4, 32, 32)


def test_what_a_processor_computes_is_found_wherever_it_is_asked(monkeypatch):
    for found in (cpu.computes_bf16, cpu._fuses_relu):
        plain = found.__wrapped__()
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
            assert found.__wrapped__() == plain

    def refuse(*_):
        raise RuntimeError(
            "mkldnn_convolution: bf16 path needs the cpu support avx_ne_convert or avx512bw, avx512vl and avx512dq"
        )

    monkeypatch.setattr(torch, "mkldnn_convolution", refuse)
    monkeypatch.setattr(cpu, "_convolve_relu", refuse)
    assert not cpu.computes_bf16.__wrapped__()
    assert not cpu._fuses_relu.__wrapped__()


@needs_training_in_bf16
def test_this_torch_has_the_private_operator_and_it_computes_what_convolution_does():
    """Fails with the first torch that has it no more: networks learn more slowly then, and cpu.py has dead code."""
    assert hasattr(torch.ops.mkldnn, "_convolution_pointwise"), torch.__version__
    assert cpu._fuses_relu.__wrapped__(), torch.__version__
    torch.manual_seed(0)
    x, weight, bias = (torch.randn(shape).bfloat16() for shape in ((2, 16, 9, 7), (24, 16, 1, 1), (24,)))
    x = x.contiguous(memory_format=torch.channels_last)
    exact = nn.functional.conv2d(x.double(), weight.double(), bias.double()).relu()
    assert torch.allclose(cpu._convolve_relu(x, weight, bias).double(), exact, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("changed", [lambda x, *_: x, lambda *_: torch.ones(1, 16, 4, 4).bfloat16()])
def test_a_private_operator_that_computes_something_else_is_not_used(monkeypatch, changed):
    monkeypatch.setattr(cpu, "_convolve_relu", changed)
    assert not cpu._fuses_relu.__wrapped__()


@needs_bf16
def test_without_a_private_operator_layers_are_torchs(monkeypatch):
    torch.manual_seed(0)
    fast = PointwiseMLP(nn.Conv2d(4, 40, 1), nn.ReLU(), nn.Conv2d(40, 8, 1))
    x = torch.randn(2, 4, 6, 5)
    monkeypatch.setattr(cpu, "_fuses_relu", lambda: False)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fast(x), nn.Sequential(*fast)(x))


@needs_bf16
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_layers_of_a_library_compute_in_fp32(stride):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(6, 6, 5, stride, padding=2, groups=6, bias=False), nn.Conv2d(6, 4, 1))
    network = copy.deepcopy(plain)
    compute_depthwise_in_fp32(network)
    assert network.state_dict().keys() == plain.state_dict().keys()
    # A convolution of all channels stays as it is.
    assert type(network[1]) is nn.Conv2d
    x = torch.randn(2, 6, 16, 16)
    assert torch.equal(network(x), plain(x))
    with torch.autocast("cpu", torch.bfloat16):
        depthwise = network[0](x)
        network(x).float().sum().backward()
    # fp32, rounded to bf16 at its end.
    assert torch.equal(depthwise, plain[0](x).bfloat16())
    plain(x).sum().backward()
    torch.testing.assert_close(network[0].weight.grad, plain[0].weight.grad, rtol=0.02, atol=0.02 * 16)
