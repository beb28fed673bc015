"""The metrics that plain loops compute on each batch, as the reference project does."""

import torch


def seven_metrics(logits: torch.Tensor, truth: torch.Tensor) -> list[torch.Tensor]:
    """Dice, IoU, accuracy, false positive and negative rate, precision, recall of each channel."""
    found, there = logits.detach().sigmoid() > 0.5, truth > 0.5
    hit, false, missed, empty = (
        (a & b).sum((0, 2, 3)).float() for a, b in ((found, there), (found, ~there), (~found, there), (~found, ~there))
    )
    ratio = lambda a, b: a / (b + 1e-9)  # noqa: E731
    return [
        ratio(2 * hit, 2 * hit + false + missed),
        ratio(hit, hit + false + missed),
        ratio(hit + empty, hit + false + missed + empty),
        ratio(false, false + empty),
        ratio(missed, missed + hit),
        ratio(hit, hit + false),
        ratio(hit, hit + missed),
    ]
