"""Whether an image is like those that a classifier was trained on, by its features: the input of the last layer.

Source: Lee et al. 2018, NeurIPS 31, arXiv:1807.03888: Mahalanobis distance to the nearest class.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer

MOST_COMPONENTS = 128
"""Principal components that are kept, of wider features."""

SHRINKAGE = 1e-3
"""Of the covariance towards the identity: few images don't fill all directions."""

WITHIN = 0.95
"""Fraction of the validation images that lie within the limit."""


@dataclass(frozen=True)
class Familiarity:
    """Gaussians of the features of each class, with one covariance.

    Attributes:
        centre: mean feature.
        whitening: to components whose covariance within the classes is 1.
        means: of each class, in these components.
        limit: distance from the nearest class within which WITHIN of the validation images lie.
    """

    centre: Float[np.ndarray, " d"]
    whitening: Float[np.ndarray, "d k"]
    means: Float[np.ndarray, "c k"]
    limit: float

    def measure(self, features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """Distance of each image from the nearest class, as a multiple of the limit."""
        return _find_nearest(features, self.centre, self.whitening, self.means) / self.limit


def fit_familiarity(
    features: Float[np.ndarray, "n d"], labels: Integer[np.ndarray, " n"], validation: Float[np.ndarray, "m d"]
) -> Familiarity:
    """The classes' Gaussians by training images, and the limit by validation images.

    Args:
        features: of the training images.
        validation: of the validation images.
    """
    features = features.astype(float)
    centre = features.mean(0)
    _, _, axes = np.linalg.svd(features - centre, full_matrices=False)
    axes = axes[:MOST_COMPONENTS].T
    components = (features - centre) @ axes
    # A class without an image has no mean.
    kinds = np.unique(labels)
    means = np.stack([components[labels == kind].mean(0) for kind in kinds])
    residuals = components - means[np.searchsorted(kinds, labels)]
    covariance = residuals.T @ residuals / len(features)
    variance, directions = np.linalg.eigh(covariance)
    # The tiniest of no variance at all, as of images that are all the same.
    floor = SHRINKAGE * max(float(variance.mean()), 1e-12)
    scaled = directions / np.sqrt(variance.clip(min=0) + floor)
    whitening = axes @ scaled
    means = means @ scaled
    limit = float(np.quantile(_find_nearest(validation, centre, whitening, means), WITHIN))
    return Familiarity(centre, whitening, means, max(limit, 1e-6))


def _find_nearest(
    features: Float[np.ndarray, "n d"],
    centre: Float[np.ndarray, " d"],
    whitening: Float[np.ndarray, "d k"],
    means: Float[np.ndarray, "c k"],
) -> Float[np.ndarray, " n"]:
    components = (features.astype(float) - centre) @ whitening
    return np.sqrt(((components[:, None] - means[None]) ** 2).sum(-1).min(1))
