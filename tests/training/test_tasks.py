import pytest
import torch

from brain_tumor.training.tasks import to_channels, to_labels, warm_cosine


@pytest.mark.parametrize("steps", [1, 2, 10, 400])
def test_learning_rate_rises_then_falls_to_zero(steps):
    factors = [warm_cosine(step, steps) for step in range(steps)]
    assert max(factors) == pytest.approx(1)
    assert all(0 <= f <= 1 for f in factors)
    peak = factors.index(max(factors))
    assert peak == max(1, steps // 10) - 1
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert steps < 3 or factors[-1] == pytest.approx(0, abs=1e-9)


def test_labels_and_channels_are_inverse():
    labels = torch.randint(0, 4, (3, 8, 8), dtype=torch.uint8)
    assert torch.equal(to_labels(to_channels(labels, 3)), labels)
