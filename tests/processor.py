"""What this processor can't compute: tests of it are skipped."""

import pytest
import torch
from torch.nn.functional import conv2d

from brain_tumor.networks.cpu import computes_bf16


def _convolves_in_bf16() -> bool:
    x = torch.ones(1, 16, 4, 4, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.ones(16, 16, 3, 3, dtype=torch.bfloat16, requires_grad=True)
    try:
        torch.autograd.grad(conv2d(x, weight, padding=1).sum(), [x, weight])
    except RuntimeError:
        return False
    return True


# Without AVX-512 torch has slow convolutions of its own; oneDNN that is told of a lesser processor than there is has
# none.
needs_bf16 = pytest.mark.skipif(not _convolves_in_bf16(), reason="torch convolves nothing in bf16 on this processor")
needs_training_in_bf16 = pytest.mark.skipif(not computes_bf16(), reason="training in bf16 is refused on this processor")
