"""What an attention map shows: the tumour, or only the brain."""

import numpy as np
from jaxtyping import Bool, Float


def score_map(
    attention: Float[np.ndarray, "n h w"], tumour: Bool[np.ndarray, "n h w"], brain: Bool[np.ndarray, "n h w"]
) -> dict[str, float]:
    """How well one patient's map tells tumour from the rest of the brain, and brain from background.

    Both are areas under the ROC curve over pixels of the slices that show tumour: 1/2 is chance, 0 is the opposite.
    `spread` is the mean standard deviation of
    the map over a slice: 0 for a map that is the same everywhere. NaN for a patient without tumour.

    Args:
        attention: NaN where there is none, outside the window that a network sees; such pixels don't count.
    """
    from sklearn.metrics import roc_auc_score  # slow to import

    shown = tumour.any((1, 2))
    attention, tumour, brain = attention[shown].astype(np.float32), tumour[shown], brain[shown]
    seen = ~np.isnan(attention)
    if not shown.any() or tumour[brain & seen].all() or brain[seen].all():
        return dict.fromkeys(("auc_tumour", "auc_brain", "spread"), float("nan"))
    return {
        "auc_tumour": float(roc_auc_score(tumour[brain & seen], attention[brain & seen])),
        "auc_brain": float(roc_auc_score(brain[seen], attention[seen])),
        "spread": float(np.nanstd(attention, (1, 2)).mean()),
    }
