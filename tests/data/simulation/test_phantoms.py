import numpy as np
import pytest

from brain_tumor.data.scans.preparation import standardise
from brain_tumor.data.simulation.phantoms import simulate_patient

SLICES = (50, 66, 82, 98)


@pytest.fixture(scope="module")
def patients():
    return [simulate_patient(SLICES, np.random.default_rng([7, k])) for k in range(12)]


def test_same_seed_gives_the_same_patient(patients):
    again = simulate_patient(SLICES, np.random.default_rng([7, 0]))
    assert np.array_equal(again.image, patients[0].image)
    assert np.array_equal(again.labels, patients[0].labels)
    assert not np.array_equal(patients[1].image, patients[0].image)


def test_tumour_lies_in_the_brain_and_background_is_zero(patients):
    for phantom in patients:
        brain = (phantom.image > 0).all(1)
        assert not (phantom.image[:, :, 0] > 0).any()
        assert brain[phantom.labels > 0].mean() > 0.99
        assert set(np.unique(phantom.labels)) <= {0, 1, 2, 3}
        assert (phantom.labels == 2).any()


def test_contrasts_are_those_of_the_sequences(patients):
    """Fluid and white matter in T1 and T2; rim in T1ce; oedema in FLAIR: the order a radiologist expects."""
    flair, t1, t1ce, t2 = (
        np.concatenate([p.image[:, [0, 1, 2, 3]] for p in patients if (p.labels == 3).sum() > 50], axis=0)
        .swapaxes(0, 1)
        .astype(float)
    )
    labels = np.concatenate([p.labels for p in patients if (p.labels == 3).sum() > 50])
    healthy = (labels == 0) & (t1 > 0)
    assert np.corrcoef(t1[healthy], t2[healthy])[0, 1] < 0
    assert np.median(t1ce[labels == 3]) > np.median(t1ce[healthy])
    assert np.median(flair[labels == 2]) > np.median(flair[healthy])


def test_no_trick_finds_the_tumour(patients):
    """Neither one threshold on one modality nor one fixed place comes near to what a network must reach."""
    truth = np.stack([p.labels > 0 for p in patients])
    images = np.stack([[standardise(plane) for plane in p.image] for p in patients])
    for modality in range(4):
        for threshold in np.linspace(-2, 3, 26):
            for found in (
                images[:, :, modality] > threshold,
                (images[:, :, modality] < threshold) & (images[:, :, modality] != 0),
            ):
                assert dice(found, truth) < 0.75
    place = truth[:6].mean(0)
    for threshold in (0.1, 0.2, 0.4):
        assert dice(np.broadcast_to(place > threshold, truth[6:].shape), truth[6:]) < 0.4


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())
