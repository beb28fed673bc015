import numpy as np
import pytest
import torch

from brain_tumor.training.segmentation.augmentation import augment, sample_augmentation
from brain_tumor.training.settings import Augmentation

NONE = Augmentation(horizontal_flip=0, affine=0, intensity=0)


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.normal(2, 1, (40, 2, 33, 33)).astype(np.float32))
    labels = torch.zeros(40, 33, 33, dtype=torch.uint8)
    labels[:, 4:12, 16:20] = 3
    image[:, :, :2] = 0
    return image, labels


def params(place=(0, 0, 0)):
    return sample_augmentation(40, 2, *place)


def test_nothing_asked_for_changes_nothing(batch):
    image, labels = augment(*batch, params(), NONE)
    assert torch.equal(image, batch[0])
    assert torch.equal(labels, batch[1])


def test_flip_mirrors_left_and_right_in_image_and_labels(batch):
    image, labels = augment(*batch, params(), NONE.model_copy(update={"horizontal_flip": 0.5}))
    flipped = (image != batch[0]).any((1, 2, 3))
    assert 10 < flipped.sum() < 30
    assert torch.equal(image[flipped], batch[0][flipped].flip(-2))
    assert torch.equal(labels[flipped], batch[1][flipped].flip(-2))
    assert torch.equal(labels[~flipped], batch[1][~flipped])


def test_quarter_turn_is_exact_and_labels_move_with_the_image():
    image = torch.arange(33 * 33.0).reshape(1, 1, 33, 33) + 1
    labels = (image[:, 0] % 4).to(torch.uint8)
    quarter = {name: torch.ones_like(value) for name, value in sample_augmentation(1, 1, 0).items()} | {
        "affine": torch.tensor([-1.0]),
        "scaling": torch.zeros(1),
    }
    turned, labels = augment(image, labels, quarter, NONE.model_copy(update={"affine": 1.0, "rotation": 90.0}))
    assert torch.allclose(turned, image.rot90(-1, (-2, -1)), atol=1e-2)
    assert torch.equal(labels, (turned[:, 0].round() % 4).to(torch.uint8))


def test_scaling_keeps_the_middle_and_changes_the_size(batch):
    labels = torch.zeros(1, 65, 65, dtype=torch.uint8)
    labels[:, 22:43, 22:43] = 2
    fixed = {name: torch.zeros_like(value) for name, value in sample_augmentation(1, 1, 0).items()} | {
        "affine": torch.tensor([-1.0]),
        "scaling": torch.ones(1),
    }
    _, larger = augment(labels[:, None].float(), labels, fixed, NONE.model_copy(update={"affine": 1.0, "scaling": 0.2}))
    assert (larger == 2).sum().sqrt().item() == pytest.approx(21 * 1.2, abs=1)
    assert torch.equal(larger, larger.flip(-1))


def test_a_turn_keeps_lengths_where_sides_differ():
    """A spot right of the middle of an oblong slice goes clockwise, and stays as far from the middle."""
    labels = torch.zeros(1, 61, 81, dtype=torch.uint8)
    labels[:, 29:32, 59:62] = 1  # 20 pixels right of (30, 40)
    turn = {name: torch.ones_like(value) for name, value in sample_augmentation(1, 1, 0).items()} | {
        "affine": torch.tensor([-1.0]),
        "scaling": torch.zeros(1),
    }
    settings = NONE.model_copy(update={"affine": 1.0, "rotation": 30.0})
    image, turned = augment(labels[:, None].float(), labels, turn, settings)
    place = np.argwhere(turned[0].numpy()).mean(0)
    assert place == pytest.approx([30 + 20 * np.sin(np.pi / 6), 40 + 20 * np.cos(np.pi / 6)], abs=0.35)
    assert image.sum().item() == pytest.approx(9, rel=0.05)


def test_a_batch_of_which_no_slice_is_moved_stays(batch):
    none = params() | {"affine": torch.ones(40)}
    image, labels = augment(*batch, none, NONE.model_copy(update={"affine": 0.3}))
    assert torch.equal(image, batch[0])
    assert torch.equal(labels, batch[1])


def test_labels_stay_labels(batch):
    _, labels = augment(*batch, params(), Augmentation(affine=1.0, intensity=1.0))
    assert set(labels.unique().tolist()) == {0, 3}


def test_intensity_leaves_what_is_not_brain(batch):
    image, labels = augment(*batch, params(), NONE.model_copy(update={"intensity": 1.0}))
    assert (image[:, :, :2] == 0).all()
    assert torch.equal(labels, batch[1])
    ratio = image[:, :, 2:].std((2, 3)) / batch[0][:, :, 2:].std((2, 3))
    assert ratio.min() >= 0.8
    assert ratio.max() <= 1.2
    assert ratio.std() > 0.05


def test_same_place_same_chances_other_place_other_chances():
    same, again = params((1, 2, 3)), params((1, 2, 3))
    assert all(torch.equal(same[name], again[name]) for name in same)
    for other in (params((0, 2, 3)), params((1, 0, 3)), params((1, 2, 0))):
        assert not torch.equal(same["horizontal_flip"], other["horizontal_flip"])


def test_modality_dropout_loses_one_modality_of_some_slices(batch):
    image, labels = augment(*batch, params(), NONE.model_copy(update={"modality_dropout": 0.5}))
    lost = (image == 0).all((2, 3))
    assert 10 < lost.any(1).sum() < 30
    assert lost.sum(1).max() == 1
    # Each modality in turn, and the others untouched.
    assert lost.any(0).all()
    assert torch.equal(image[~lost], batch[0][~lost])
    assert torch.equal(labels, batch[1])
