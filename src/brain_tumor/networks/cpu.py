"""What only CPUs need: whether they compute bf16, memory that is kept, layers that take less time in bf16.

Layers compute the same as torch's; elsewhere they are torch's. What each gains, and what else was
tried: docs/experiments/training_speed.md.
"""

import ctypes
import platform
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d

CACHED = 1 << 16
"""Numbers whose fp32 values, with those computed from them, fit the second-level cache of a core."""


@cache
def computes_bf16() -> bool:
    """Whether oneDNN computes convolutions and their gradients in bf16 here, natively or by fp32 within its kernels.

    Found by trying: what a processor has and what oneDNN takes are two things (`ONEDNN_MAX_CPU_ISA`). Where it takes
    no bf16, torch's own convolution takes five times as long as in fp32, or there is none.
    """

    def convolve() -> None:
        x, weight = _ones(1, 16, 4, 4).requires_grad_(), _ones(16, 16, 3, 3).requires_grad_()
        y = torch.mkldnn_convolution(x, weight, None, [1, 1], [1, 1], [1, 1], 1)
        torch.autograd.grad(y.sum(), [x, weight])

    return _runs(convolve)


@cache
def has_bf16_units() -> bool:
    """Whether bf16 is faster than fp32: the processor computes it natively, and oneDNN makes use of that."""
    return torch.cpu._is_avx512_bf16_supported() and computes_bf16()


@cache
def _fuses_relu() -> bool:
    """Whether torch has the convolution that it keeps for its compiler, and oneDNN computes it in bf16 here.

    It is private: another version of torch may not have it, want other arguments, or mean something else by them.
    Without it `PointwiseMLP` is torch's own layers.
    """

    def convolve() -> None:
        x = torch.linspace(-1, 1, 16 * 16, dtype=torch.bfloat16, device="cpu").reshape(1, 16, 4, 4)
        weight, bias = x.reshape(16, 16, 1, 1).roll(7, 0), x.flatten()[::16].contiguous()
        found, expected = _convolve_relu(x, weight, bias), conv2d(x, weight, bias).relu()
        if not torch.allclose(found, expected, rtol=0.05, atol=0.05):
            raise RuntimeError("the fused convolution isn't what torch's own is")

    return _runs(convolve)


def _ones(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.bfloat16, device="cpu")


def _runs(attempt: Callable[[], None]) -> bool:
    try:
        # Whatever the caller is in the middle of.
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False):
            attempt()
    except (AttributeError, RuntimeError, TypeError):
        return False
    return True


def keep_freed_memory() -> None:
    """Have the C library keep what is freed: it would fetch large blocks anew, page by page, in every step."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no block gets a mapping of its own
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: free memory at the end of the heap stays


def in_bf16_on_cpu(x: Tensor) -> bool:
    """Whether autocast would have oneDNN compute what comes of this in bf16.

    Some of its gradients take far longer than they need to.
    """
    return x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.backends.mkldnn.is_available()


class PointwiseMLP(nn.Sequential):
    """1x1 convolution, ReLU, 1x1 convolution.

    One pass over the wide map in the middle instead of three, in bf16 on a CPU.
    """

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:  # the name in nn.Sequential  # noqa: A002
        """The map of as many channels as the last convolution gives."""
        if not in_bf16_on_cpu(input) or not _fuses_relu():
            return super().forward(input)
        return _Perceptron.apply(
            input.to(torch.get_autocast_dtype("cpu")), self[0].weight, self[0].bias, self[2].weight, self[2].bias
        )


class _Perceptron(torch.autograd.Function):
    """ReLU is part of the first convolution, and its gradient overwrites that of the second, which nothing else sees."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, expand: Tensor, of_middle: Tensor, project: Tensor, of_output: Tensor) -> Tensor:
        expand, of_middle, project, of_output = (
            parameter.to(x.dtype) for parameter in (expand, of_middle, project, of_output)
        )
        middle = _convolve_relu(x, expand, of_middle)
        ctx.save_for_backward(x, middle, expand, project)
        return conv2d(middle, project, of_output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        x, middle, expand, project = ctx.saved_tensors
        gradient, of_project, of_output = _gradients(gradients[0], middle, project)
        torch.ops.aten.threshold_backward.grad_input(gradient, middle, 0, grad_input=gradient)
        of_x, of_expand, of_middle = _gradients(gradient, x, expand)
        return of_x, of_expand.float(), of_middle.float(), of_project.float(), of_output.float()


def _convolve_relu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """ReLU of a 1x1 convolution, in one pass."""
    return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, [0, 0], [1, 1], [1, 1], 1, "relu", [], "")


def _gradients(gradient: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of a 1x1 convolution's input, weight and bias."""
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    return torch.ops.aten.convolution_backward(
        gradient, x, weight, [len(weight)], [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [True] * 3
    )


class DepthwiseConv2d(nn.Conv2d):
    """A convolution of each channel by itself; the size of the map stays.

    The same as `nn.Conv2d(channels, channels, size, padding=size // 2, groups=channels)`, but its gradient takes a
    fraction of the time in bf16 on a CPU.
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__(channels, channels, size, padding=size // 2, groups=channels)

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:  # the name in nn.Conv2d  # noqa: A002
        """The convolved map."""
        if in_bf16_on_cpu(input) and self.bias is not None:
            return _Depthwise.apply(input.to(torch.get_autocast_dtype("cpu")), self.weight, self.bias)
        return super().forward(input)


class _Depthwise(torch.autograd.Function):
    """The gradient of a depthwise kernel is itself a depthwise convolution.

    Of each channel of each slice, with the gradient there as its kernel.

    oneDNN computes that twenty times as fast as what it has for gradients of depthwise kernels in bf16.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return conv2d(x, weight.to(x.dtype), bias.to(x.dtype), padding=weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        batch, channels, height, width = x.shape
        padding = weight.shape[-1] // 2
        of_x = (
            conv2d(gradient, weight.flip(2, 3).to(x.dtype), padding=padding, groups=channels)
            if ctx.needs_input_grad[0]
            else None
        )
        maps = x.permute(2, 3, 0, 1).reshape(1, height, width, -1).permute(0, 3, 1, 2)
        of_weight = conv2d(maps, gradient.reshape(-1, 1, height, width), padding=padding, groups=batch * channels)
        return (
            of_x,
            of_weight.unflatten(1, (batch, *weight.shape[:2])).float().sum((0, 1)),
            gradient.sum((2, 3)).float().sum(0),
        )


class GroupNorm(nn.GroupNorm):
    """Torch's, but its gradient takes a fraction of the time in bf16 on a CPU.

    Source: Wu & He 2018, arXiv:1803.08494.
    """

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:  # the name in nn.GroupNorm  # noqa: A002
        """The map with mean 0 and deviation 1 over each group of channels, then scaled and shifted by channel."""
        if (
            in_bf16_on_cpu(input) and input.dtype == torch.bfloat16 and len(input) and input[0, 0].numel() > 512
        ):  # torch's own is quick on small maps
            return _GroupNorm.apply(input, self.weight, self.bias, self.num_groups, self.eps)
        return super().forward(input)


class _GroupNorm(torch.autograd.Function):
    """The gradient is (g - mean(g) - z mean(g z)) / deviation.

    Z the normalised map, g the output's gradient times the scale, means over the group.

    Maps are taken as rows with channels innermost, and what differs by channel is repeated along a row, so that
    everything runs in vectors.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        y, mean, scale = torch.native_group_norm(x, weight, bias, len(x), x.shape[1], x[0, 0].numel(), groups, eps)
        ctx.save_for_backward(x, mean, scale, weight)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, scale, weight = ctx.saved_tensors
        channels, width, members = x.shape[1], x.shape[3], x.shape[1] // mean.shape[1]
        mean, scale = (value.float().repeat_interleave(members, 1) for value in (mean, scale))
        rows, gradient = (
            value.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1).flatten(2)
            for value in (x, gradients[0])
        )

        def along(factor: Tensor) -> Tensor:
            return factor.to(x.dtype).repeat(1, width)[:, None]

        z = torch.addcmul(along(-mean * scale), rows, along(scale))
        of_weight, of_bias = (
            value.sum(1).float().unflatten(1, (width, channels)).sum(1) for value in (gradient * z, gradient)
        )
        shared = (
            (value * weight).unflatten(1, (-1, members)).mean(2).repeat_interleave(members, 1) / x[0, 0].numel()
            for value in (of_bias, of_weight)
        )
        constant, slope = (along(-scale * value) for value in shared)
        of_x = torch.addcmul(constant, z, slope, out=z).addcmul_(gradient, along(scale * weight))
        return of_x.unflatten(2, (width, channels)).permute(0, 3, 1, 2), of_weight.sum(0), of_bias.sum(0), None, None


class Mish(nn.Mish):
    """x tanh(softplus(x)), with one exponential instead of three in bf16 on a CPU.

    Source: Misra 2019, arXiv:1908.08681.
    """

    def forward(self, input: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:  # the name in nn.Mish  # noqa: A002
        """The activated map."""
        return (
            _Mish.apply(input)
            if in_bf16_on_cpu(input) and input.dtype == torch.bfloat16 and input.dim()
            else super().forward(input)
        )


class _Mish(torch.autograd.Function):
    """tanh(softplus(x)) is n / (n + 2) with n = exp(x) (exp(x) + 2).

    Taken in parts of the batch that fit the cache: it is as many passes over the map.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y, slope = torch.empty_like(x), torch.empty_like(x)
        part = max(1, CACHED * len(x) // max(1, x.numel()))
        for values, result, gradient in zip(*(tensor.split(part) for tensor in (x, y, slope)), strict=True):
            exponential = values.float().clamp_(max=20).exp_()  # from 20 on it is 1, and the square stays finite
            n = (exponential + 2).mul_(exponential)
            share = n.div_(n + 2)
            if ctx.needs_input_grad[0]:
                bend = torch.addcmul(share.new_ones(()), share, share, value=-1).mul_(exponential.div_(exponential + 1))
                gradient.copy_(bend.mul_(values).add_(share))
            result.copy_(share.mul_(values))
        ctx.save_for_backward(slope)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return ctx.saved_tensors[0] * gradients[0]


def apply_gate(x: Float[Tensor, "b c h w"], weight: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b c h w"]:
    """The product with a weight for each place."""
    if x.device.type == "cpu" and x.shape[1] < 32:
        weight = weight.expand_as(x).contiguous(
            memory_format=torch.channels_last
        )  # so few channels by one aren't multiplied in vectors: twice the time
    return x * weight
