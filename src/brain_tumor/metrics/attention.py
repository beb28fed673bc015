"""Scores of attention maps: how well they separate tumour from brain, and brain from background."""

import numpy as np
from jaxtyping import Bool, Float


def score_map(
    attention: Float[np.ndarray, "n h w"],
    tumour: Bool[np.ndarray, "n h w"],
    brain: Bool[np.ndarray, "n h w"],
) -> dict[str, float]:
    """Areas under the ROC curve of one patient's attention maps, over the slices that show tumour.

    Args:
        attention: NaN outside the network's field of view; such pixels are excluded.

    Returns:
        `auc_tumour`: tumour against the rest of the brain; 0.5 is chance.
        `auc_brain`: brain against background.
        `spread`: mean over slices of the map's standard deviation; 0 for a uniform map.
        All are NaN for a patient without tumour.
    """
    from sklearn.metrics import roc_auc_score  # slow to import

    shown = tumour.any((1, 2))
    # Maps are stored in fp16, whose sums overflow.
    attention = attention[shown].astype(np.float32)
    tumour = tumour[shown]
    brain = brain[shown]
    seen = ~np.isnan(attention)
    # An area needs pixels of both kinds.
    in_brain = brain & seen
    if not shown.any() or tumour[in_brain].all() or brain[seen].all():
        return dict.fromkeys(("auc_tumour", "auc_brain", "spread"), float("nan"))
    auc_tumour = roc_auc_score(tumour[in_brain], attention[in_brain])
    auc_brain = roc_auc_score(brain[seen], attention[seen])
    spread_by_slice = np.nanstd(attention, (1, 2))
    return {
        "auc_tumour": float(auc_tumour),
        "auc_brain": float(auc_brain),
        "spread": float(spread_by_slice.mean()),
    }
