"""How often each training image is used in an epoch.

Where the classes of a data set come from different sources, the look of a source tells the class: the Brain Tumor MRI
Dataset has its gliomas from one source and its images without tumour from others, so a meningioma that looks like
these others is missed. Images of a scarce source are used more often (reweighting of groups, Idrissi et al. 2022,
"Simple data balancing achieves competitive worst-group-accuracy", arXiv:2110.14503).
"""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Integer

from brain_tumor.data.common.store import Store


def choose_rows(images: Store, splits: pd.DataFrame, train: np.ndarray, strength: float) -> np.ndarray:
    """Rows of the store in an epoch: those that train, of scarce sources more than once.

    Args:
        splits: rows `file`, `patient` ("" where it is not known).
    """
    (labels,) = images.read(train, "label")
    listed = images.rows["file"].iloc[train].isin(splits.loc[splits["patient"] != "", "file"])
    return train[repeat_scarce_sources(labels, listed.to_numpy(), strength)]


def repeat_scarce_sources(
    labels: Integer[np.ndarray, " n"], listed: Bool[np.ndarray, " n"], strength: float
) -> Integer[np.ndarray, " m"]:
    """Positions of the images of an epoch: all once, and within each class those of the scarcer source repeated.

    Args:
        listed: whether the patient of an image is known: images that a table of patients has are one source, those it
            lacks another.
        strength: 0 repeats nothing; at 1 both sources of a class have as many images; at 0.5 their ratio is the root
            of what it was.

    >>> repeat_scarce_sources(np.array([0, 0, 0, 0, 0]), np.array([True, True, True, True, False]), 0.5).tolist()
    [0, 1, 2, 3, 4, 4]
    """
    times = np.ones(len(labels), int)
    for label in np.unique(labels):
        sources = [np.flatnonzero((labels == label) & (listed == source)) for source in (False, True)]
        scarce, common = sorted(sources, key=len)
        if len(scarce):
            rate = (len(common) / len(scarce)) ** strength
            # Whole numbers whose sum is nearest to that of the rate.
            times[scarce] = np.diff(np.round(rate * np.arange(len(scarce) + 1)).astype(int))
    return np.repeat(np.arange(len(labels)), times)
