import numpy as np
import pytest

from brain_tumor.networks.familiarity import MOST_COMPONENTS, fit_familiarity


@pytest.fixture
def draw(rng):
    """Features of two classes whose covariance is far from round."""
    spread = rng.normal(size=(20, 20)) * np.linspace(0.1, 3, 20)

    def draw_class(kind, count):
        return rng.normal(size=(count, 20)) @ spread + 10 * kind

    return draw_class


def test_validation_images_lie_within_the_limit_and_others_beyond(draw, rng):
    features = np.concatenate([draw(0, 400), draw(1, 400)])
    labels = np.repeat([0, 1], 400)
    validation = np.concatenate([draw(0, 200), draw(1, 200)])
    familiarity = fit_familiarity(features, labels, validation)
    assert (familiarity.measure(validation) <= 1).mean() == pytest.approx(0.95, abs=0.01)
    fresh = np.concatenate([draw(0, 500), draw(1, 500)])
    assert (familiarity.measure(fresh) > 1).mean() < 0.12
    # Between the classes, and of another spread.
    assert (familiarity.measure(draw(0.5, 200)) > 1).all()
    assert (familiarity.measure(rng.normal(size=(200, 20)) * 30) > 1).all()


def test_the_distance_is_that_of_mahalanobis(draw):
    features, labels = np.concatenate([draw(0, 300), draw(1, 300)]), np.repeat([0, 1], 300)
    familiarity = fit_familiarity(features, labels, draw(0, 100))
    new = draw(0, 5)
    residuals = features - np.where(labels[:, None] == 0, features[:300].mean(0), features[300:].mean(0))
    precision = np.linalg.inv(residuals.T @ residuals / 600)
    apart = new - features[:300].mean(0)
    expected = np.sqrt(np.einsum("ij,jk,ik->i", apart, precision, apart))
    # Shrinkage makes the directions of least variance count less.
    assert np.corrcoef(familiarity.measure(new) * familiarity.limit, expected)[0, 1] > 0.9


def test_few_images_with_wide_features_and_a_class_without_any(rng):
    features = rng.normal(size=(10, 300))
    familiarity = fit_familiarity(features, np.repeat([0, 2], 5), features)
    assert familiarity.whitening.shape[1] <= MOST_COMPONENTS
    assert np.isfinite(familiarity.measure(features)).all()
    assert (familiarity.measure(features + 50) > 1).all()
