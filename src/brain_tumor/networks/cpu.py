"""CPU specifics: a test for bf16, memory that the allocator keeps, and layers that are faster than torch's in bf16.

Layers compute the same as torch's, and are torch's on other devices and in fp32.
Measurements: docs/experiments/training_speed.md
"""

import ctypes
import gc
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
"""Elements of a tensor whose fp32 values and intermediate results fit the L2 cache of a core."""


@cache
def computes_bf16() -> bool:
    """Whether oneDNN has convolutions and their gradients in bf16 on this CPU, natively or by fp32 in its kernels."""
    # Tried rather than read from the processor's flags, which `ONEDNN_MAX_CPU_ISA` may override. Without oneDNN torch
    # has no bf16 convolution, or one that takes five times as long as fp32.

    def convolve() -> None:
        x = _ones(1, 16, 4, 4).requires_grad_()
        weight = _ones(16, 16, 3, 3).requires_grad_()
        y = torch.mkldnn_convolution(x, weight, None, [1, 1], [1, 1], [1, 1], 1)
        torch.autograd.grad(y.sum(), [x, weight])

    return _runs(convolve)


@cache
def has_bf16_units() -> bool:
    """Whether bf16 is faster than fp32: the processor has instructions for it, and oneDNN uses them."""
    return torch.cpu._is_avx512_bf16_supported() and computes_bf16()


@cache
def _fuses_relu() -> bool:
    """Whether torch has the convolution that it keeps for its compiler, and oneDNN computes it in bf16 here.

    It is private: another version of torch may not have it, want other arguments, or mean something else by them.
    Without it `PointwiseMLP` is torch's own layers.
    """

    def convolve() -> None:
        # Values of both signs, of which ReLU keeps one.
        values = torch.linspace(-1, 1, 16 * 16, dtype=torch.bfloat16, device="cpu")
        x = values.reshape(1, 16, 4, 4)
        weight = values.reshape(16, 16, 1, 1).roll(7, 0)
        bias = values[::16].contiguous()
        found = _convolve_relu(x, weight, bias)
        expected = conv2d(x, weight, bias).relu()
        if not torch.allclose(found, expected, rtol=0.05, atol=0.05):
            raise RuntimeError("the fused convolution isn't what torch's own is")

    return _runs(convolve)


def _ones(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.bfloat16, device="cpu")


def _runs(attempt: Callable[[], None]) -> bool:
    try:
        # Independent of the modes of the caller; the results are cached.
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False):
            attempt()
    except (AttributeError, RuntimeError, TypeError):
        return False
    return True


def keep_freed_memory() -> None:
    """Make the C library keep freed memory."""
    # By default it returns large blocks to the system, and gets them anew, page by page, in every training step.
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no block gets a mapping of its own
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: free memory at the end of the heap stays


def release_freed_memory() -> None:
    """Give what `keep_freed_memory` kept back to the system: training needs gigabytes that the nodes after it don't."""
    # Networks, optimisers and loaders refer to each other in circles.
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def in_bf16_on_cpu(x: Tensor) -> bool:
    """Whether autocast sends operations on this tensor to oneDNN in bf16, where the layers below are faster."""
    if x.device.type != "cpu":
        return False
    return torch.is_autocast_enabled("cpu") and torch.backends.mkldnn.is_available()


class PointwiseMLP(nn.Sequential):
    """1x1 convolution, ReLU, 1x1 convolution; in bf16 on a CPU with one pass over the wide map instead of three."""

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:  # as in nn.Sequential  # noqa: A002
        """The map after both convolutions."""
        if not in_bf16_on_cpu(input) or not _fuses_relu():
            return super().forward(input)
        x = input.to(torch.get_autocast_dtype("cpu"))
        expand, _, project = self
        return _PointwiseMLP.apply(x, expand.weight, expand.bias, project.weight, project.bias)


class _PointwiseMLP(torch.autograd.Function):
    """Two 1x1 convolutions with a ReLU that is fused into the first one."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight1: Tensor,
        bias1: Tensor,
        weight2: Tensor,
        bias2: Tensor,
    ) -> Tensor:
        # Parameters are fp32. Weights are cast once, for the backward pass too.
        weight1 = weight1.to(x.dtype)
        weight2 = weight2.to(x.dtype)
        middle = _convolve_relu(x, weight1, bias1.to(x.dtype))
        ctx.save_for_backward(x, middle, weight1, weight2)
        return conv2d(middle, weight2, bias2.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        x, middle, weight1, weight2 = ctx.saved_tensors
        gradient, grad_weight2, grad_bias2 = _gradients(gradients[0], middle, weight2)
        # In place: nothing else uses the gradient of the wide map.
        torch.ops.aten.threshold_backward.grad_input(gradient, middle, 0, grad_input=gradient)
        grad_x, grad_weight1, grad_bias1 = _gradients(gradient, x, weight1)
        return grad_x, grad_weight1.float(), grad_bias1.float(), grad_weight2.float(), grad_bias2.float()


def _convolve_relu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """ReLU of a 1x1 convolution, in one pass."""
    padding, stride, dilation, groups = [0, 0], [1, 1], [1, 1], 1
    return torch.ops.mkldnn._convolution_pointwise(
        x,
        weight,
        bias,
        padding,
        stride,
        dilation,
        groups,
        "relu",
        [],
        "",
    )


def _gradients(gradient: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a 1x1 convolution with respect to input, weight and bias."""
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    bias_sizes = [len(weight)]
    stride, padding, dilation, output_padding = [1, 1], [0, 0], [1, 1], [0, 0]
    transposed, groups = False, 1
    wanted = [True, True, True]
    return torch.ops.aten.convolution_backward(
        gradient,
        x,
        weight,
        bias_sizes,
        stride,
        padding,
        dilation,
        transposed,
        output_padding,
        groups,
        wanted,
    )


class DepthwiseConv2d(nn.Conv2d):
    """Depthwise convolution without change of size, whose gradient takes a fraction of the time in bf16 on a CPU.

    The same as `nn.Conv2d(channels, channels, size, padding=size // 2, groups=channels)`.
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__(channels, channels, size, padding=size // 2, groups=channels)

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:  # as in nn.Conv2d  # noqa: A002
        """The convolved map."""
        if in_bf16_on_cpu(input) and self.bias is not None:
            x = input.to(torch.get_autocast_dtype("cpu"))
            return _Depthwise.apply(x, self.weight, self.bias)
        return super().forward(input)


class _DepthwiseInFp32(nn.Conv2d):
    """Depthwise convolution of a library's network, in fp32 where autocast computes in bf16 on a CPU.

    oneDNN's gradient of depthwise weights takes up to six times as long in bf16, and with strides `DepthwiseConv2d` has
    no faster one.
    """

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c i j"]:  # as in nn.Conv2d  # noqa: A002
        """The convolved map."""
        if not in_bf16_on_cpu(input):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            y = super().forward(input.float())
        return y.to(torch.get_autocast_dtype("cpu"))


def compute_depthwise_in_fp32(network: nn.Module) -> None:
    """Give the depthwise convolutions of a network their faster way on CPUs; the weights and their names stay."""
    for module in network.modules():
        # Subclasses of a library have a forward of their own.
        if type(module) is nn.Conv2d and 1 < module.groups == module.in_channels:
            module.__class__ = _DepthwiseInFp32


class _Depthwise(torch.autograd.Function):
    """Depthwise convolution whose weights' gradient is computed as a depthwise convolution too.

    It convolves each channel of each slice with that channel's output gradient as the kernel. oneDNN computes this
    twenty times as fast in bf16 as its own gradient of depthwise weights.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        padding = weight.shape[-1] // 2
        return conv2d(x, weight.to(x.dtype), bias.to(x.dtype), padding=padding, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        batch, channels, height, width = x.shape
        padding = weight.shape[-1] // 2
        grad_x = None
        # The first layer's input needs none.
        if ctx.needs_input_grad[0]:
            flipped = weight.flip(2, 3).to(x.dtype)
            grad_x = conv2d(gradient, flipped, padding=padding, groups=channels)
        # Slices become channels of one slice: (1, batch * channels, height, width), channels last in memory.
        pixels_first = x.permute(2, 3, 0, 1).reshape(1, height, width, -1)
        maps = pixels_first.permute(0, 3, 1, 2)
        kernels = gradient.reshape(-1, 1, height, width)
        grad_weight = conv2d(maps, kernels, padding=padding, groups=batch * channels)
        grad_weight = grad_weight.unflatten(1, (batch, *weight.shape[:2]))
        # Summed over the batch in fp32: bf16 has three digits.
        grad_bias = gradient.sum((2, 3)).float().sum(0)
        return grad_x, grad_weight.float().sum((0, 1)), grad_bias


class GroupNorm(nn.GroupNorm):
    """torch's GroupNorm, whose gradient takes a fraction of the time in bf16 on a CPU.

    Source: Wu & He 2018, arXiv:1803.08494.
    """

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:  # as in nn.GroupNorm  # noqa: A002
        """The map with mean 0 and deviation 1 over each group of channels, then scaled and shifted by channel."""
        # torch's own is quick on small maps.
        large = len(input) and input[0, 0].numel() > 512
        if large and in_bf16_on_cpu(input) and input.dtype == torch.bfloat16:
            return _GroupNorm.apply(input, self.weight, self.bias, self.num_groups, self.eps)
        return super().forward(input)


class _GroupNorm(torch.autograd.Function):
    """The input's gradient is (g - mean(g) - z mean(g z)) / deviation, with means over the group.

    z is the normalised map, g the output's gradient times the weight.
    """

    # Maps are taken as rows with channels innermost, and factors of channels are repeated along a row, so that all
    # operations run in vectors.

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        batch, channels, height, width = x.shape
        y, mean, scale = torch.native_group_norm(x, weight, bias, batch, channels, height * width, groups, eps)
        ctx.save_for_backward(x, mean, scale, weight)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, scale, weight = ctx.saved_tensors
        _, channels, height, width = x.shape
        pixels = height * width
        # Channels in a group.
        members = channels // mean.shape[1]
        mean = mean.float().repeat_interleave(members, 1)
        scale = scale.float().repeat_interleave(members, 1)

        def to_rows(values: Tensor) -> Tensor:
            channels_last = values.contiguous(memory_format=torch.channels_last)
            return channels_last.permute(0, 2, 3, 1).flatten(2)

        def along(factor: Tensor) -> Tensor:
            return factor.to(x.dtype).repeat(1, width)[:, None]

        def sum_pixels(values: Tensor) -> Tensor:
            # Over rows in bf16's vectors, over the pixels of a row in fp32.
            over_rows = values.sum(1).float()
            return over_rows.unflatten(1, (width, channels)).sum(1)

        def group_mean(sums: Tensor) -> Tensor:
            means = (sums * weight).unflatten(1, (-1, members)).mean(2)
            return means.repeat_interleave(members, 1) / pixels

        gradient = to_rows(gradients[0])
        z = torch.addcmul(along(-mean * scale), to_rows(x), along(scale))
        grad_weight = sum_pixels(gradient * z)
        grad_bias = sum_pixels(gradient)
        constant = along(-scale * group_mean(grad_bias))
        slope = along(-scale * group_mean(grad_weight))
        # `z` isn't needed any more, so its memory takes the result.
        grad_x = torch.addcmul(constant, z, slope, out=z).addcmul_(gradient, along(scale * weight))
        grad_x = grad_x.unflatten(2, (width, channels)).permute(0, 3, 1, 2)
        return grad_x, grad_weight.sum(0), grad_bias.sum(0), None, None


class Mish(nn.Mish):
    """x tanh(softplus(x)), with one exponential instead of three in bf16 on a CPU.

    Source: Misra 2019, arXiv:1908.08681.
    """

    def forward(self, input: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:  # the name in nn.Mish  # noqa: A002
        """The activated map."""
        # A single number has no batch to divide into parts.
        if in_bf16_on_cpu(input) and input.dtype == torch.bfloat16 and input.dim():
            return _Mish.apply(input)
        return super().forward(input)


class _Mish(torch.autograd.Function):
    """Mish by one exponential: tanh(softplus(x)) is n / (n + 2) with n = exp(x) (exp(x) + 2)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y, slope = torch.empty_like(x), torch.empty_like(x)
        # In parts of the batch that fit the cache, because there are a dozen passes over each.
        part = max(1, CACHED * len(x) // max(1, x.numel()))
        parts = zip(x.split(part), y.split(part), slope.split(part), strict=True)
        for values, result, gradient in parts:
            # From 20 on the share is 1; clamped, the square stays finite.
            exponential = values.float().clamp_(max=20).exp_()
            n = (exponential + 2).mul_(exponential)
            share = n.div_(n + 2)
            if ctx.needs_input_grad[0]:
                # share + x (1 - share^2) sigmoid(x)
                sigmoid = exponential.div_(exponential + 1)
                bend = torch.addcmul(share.new_ones(()), share, share, value=-1)
                bend.mul_(sigmoid)
                gradient.copy_(bend.mul_(values).add_(share))
            result.copy_(share.mul_(values))
        ctx.save_for_backward(slope)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return ctx.saved_tensors[0] * gradients[0]


def apply_gate(
    x: Float[Tensor, "b c h w"],
    weight: Float[Tensor, "b 1 h w"],
) -> Float[Tensor, "b c h w"]:
    """Product of a map with a weight for each pixel."""
    # torch multiplies few channels by a broadcast one without vectors, at twice the time.
    if x.device.type == "cpu" and x.shape[1] < 32:
        weight = weight.expand_as(x).contiguous(memory_format=torch.channels_last)
    return x * weight
