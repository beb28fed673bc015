import subprocess
import sys

import numpy as np
import pytest
import torch
from squares import save_squares

from brain_tumor.data.common.bounding_box import BoundingBox
from brain_tumor.data.scans.preparation import prepare_slice
from brain_tumor.data.scans.slice_geometry import SliceGeometry
from brain_tumor.metrics.segmentation import to_labels
from brain_tumor.networks import build
from brain_tumor.networks.attention import capture_attention
from brain_tumor.training.device import choose_device
from brain_tumor.training.segmentation.prediction import predict_attention, predict_probabilities, segment_volume
from brain_tumor.training.settings import EngineSettings

DEVICE = choose_device(EngineSettings(device="cpu", precision="fp32"))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return save_squares(tmp_path_factory.mktemp("store"))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return build("attention_unet", n_filters=4)


def test_probabilities_are_the_networks_in_steps(store, network):
    rows = np.array([3, 1, 7])
    found = np.concatenate(
        list(predict_probabilities(network.eval(), store, rows, DEVICE, tta_flip=False, batch_size=2))
    )
    with torch.no_grad():
        expected = network(torch.from_numpy(store.read(rows, "image")[0]).float()).sigmoid().numpy()
    assert found.shape == (3, 3, 32, 32)
    assert np.abs(found / 255 - expected).max() <= 0.5 / 255 + 1e-4


def test_mirrored_slices_are_averaged(store, network):
    rows = np.array([0])
    (both,) = predict_probabilities(network.eval(), store, rows, DEVICE, tta_flip=True)
    image = torch.from_numpy(store.read(rows, "image")[0]).float()
    with torch.no_grad():
        expected = (network(image).sigmoid() + network(image.flip(2)).sigmoid().flip(2)) / 2
    assert np.abs(both / 255 - expected.numpy()).max() <= 0.5 / 255 + 1e-4


def test_attention_is_brought_to_the_size_of_the_slice(store, network):
    rows = np.arange(5)
    maps = predict_attention(network.eval(), store, rows, DEVICE, batch_size=2)
    assert list(maps) == ["gates.0", "gates.1", "gates.2", "gates.3"]
    assert all(m.shape == (5, 32, 32) for m in maps.values())
    with torch.no_grad(), capture_attention(network) as seen:
        network(torch.from_numpy(store.read(rows, "image")[0]).float())
    assert np.abs(maps["gates.3"] - seen["gates.3"][:, 0].numpy()).max() < 1e-3
    assert np.allclose(maps["gates.0"][:, 0, 0], seen["gates.0"][:, 0, 0, 0], atol=1e-3)  # corners stay corners


@pytest.fixture
def windowed(tmp_path):
    """Told to have brains in rows 3 to 18 and columns 15 to 30: networks see 16 of each."""
    return save_squares(tmp_path, brain=BoundingBox(3, 19, 15, 31))


@pytest.mark.parametrize("tta_flip", [False, True])
def test_only_the_window_is_seen_and_nothing_is_found_outside(windowed, network, tta_flip):
    rows = np.array([4, 2])
    (found,) = predict_probabilities(network.eval(), windowed, rows, DEVICE, tta_flip=tta_flip)
    part = torch.from_numpy(windowed.read(rows, "image")[0][:, :, 3:19, 15:31]).float()
    with torch.no_grad():
        expected = network(part).sigmoid()
        expected = (expected + network(part.flip(2)).sigmoid().flip(2)) / 2 if tta_flip else expected
    assert np.abs(found[:, :, 3:19, 15:31] / 255 - expected.numpy()).max() <= 0.5 / 255 + 1e-4
    assert found[:, :, 3:19, 15:31].any()
    found[:, :, 3:19, 15:31] = 0
    assert not found.any()


def test_attention_is_that_of_the_window(windowed, network):
    gate = predict_attention(network.eval(), windowed, np.arange(3), DEVICE)["gates.3"]
    with torch.no_grad(), capture_attention(network) as seen:
        network(torch.from_numpy(windowed.read(np.arange(3), "image")[0][:, :, 3:19, 15:31]).float())
    assert gate.shape == (3, 32, 32)
    assert np.abs(gate[:, 3:19, 15:31] - seen["gates.3"][:, 0].numpy()).max() < 1e-3
    assert np.isnan(gate).sum() == 3 * (32 * 32 - 16 * 16)


class Pointwise(torch.nn.Module):
    """Finds the second tissue where the first modality is above its mean in the brain; remembers what it was shown."""

    def forward(self, x):
        self.shown = x.shape[-2:]
        return torch.stack([torch.full_like(x[:, 0], -9), 20 * x[:, 0] - 2, torch.full_like(x[:, 0], -9)], 1)


def segment(network, image, spacing, pixel_mm, window=(64, 64)):
    geometry = SliceGeometry(64, pixel_mm, window)
    return segment_volume(network, image, (*spacing, 3.0), geometry, DEVICE, tta_flip=False)


@pytest.mark.parametrize(("window", "shown"), [((16, 16), (32, 16)), ((16, 48), (32, 48)), ((64, 64), (64, 64))])
def test_a_volume_is_segmented_within_the_window_around_its_brain(window, shown):
    """What a network that looks at single pixels finds doesn't depend on the window.

    The image is twice as tall as wide, and padded.
    """
    image = np.zeros((4, 128, 64, 3), np.float32)
    image[:, 70:120, 20:44] = np.random.default_rng(0).normal(300, 40, (4, 50, 24, 3))
    network = Pointwise()
    (found, _), (other, probability) = (segment(network, image, (1, 1), (2, 2), seen) for seen in ((64, 64), window))
    assert network.shown == shown
    assert np.array_equal(found, other)
    # 127.5 of 255 is rounded to either side.
    assert (to_labels(probability.transpose(3, 0, 1, 2)).transpose(1, 2, 0) != found).mean() < 1e-3
    inside = found[70:120, 20:44]
    assert 0.3 < (inside == 2).mean() < 0.7
    assert (found > 0).sum() - (inside > 0).sum() < 0.1 * (inside > 0).sum()


class Seen(torch.nn.Module):
    """Finds nothing; remembers the images that it was shown."""

    def forward(self, x):
        self.image = x.clone()
        return torch.full((len(x), 3, *x.shape[-2:]), -9.0)


def smooth(step, side, shift=(0.0, 0.0)):
    """Waves in an ellipse of 60 x 44 mm, at pixels of `step` mm in a field of view of `side` mm: (4, h, w, 1)."""
    rows, columns = (
        (np.arange(round(length / width)) + 0.5) * width - length / 2 - off
        for length, width, off in zip(side, step, shift, strict=True)
    )
    row, column = np.meshgrid(rows, columns, indexing="ij")
    waves = [np.sin(row / (7 + k)) + np.cos(column / (9 - k)) + 5 for k in range(4)]
    return (np.stack(waves) * ((row / 30) ** 2 + (column / 22) ** 2 < 1))[..., None].astype(np.float32)


@pytest.mark.parametrize(
    ("step", "side"),
    [
        ((0.5, 0.5), (128, 128)),
        ((1, 0.5), (128, 96)),
        ((1, 1), (64, 48)),
        ((0.8, 0.8), (200, 256)),
        ((1, 1), (160, 128)),
    ],
)
def test_a_brain_has_the_same_pixels_whatever_the_spacing_and_the_field_of_view(step, side):
    network = Seen()
    segment(network, smooth((1, 1), (128, 128)), (1, 1), (2, 2))
    expected = network.image
    segment(network, smooth(step, side), step, (2, 2))
    found = network.image
    top, left = ((found.shape[k] - 64) // 2 for k in (2, 3))
    found = found[:, :, top : top + 64, left : left + 64]
    inside = torch.nn.functional.max_pool2d((expected == 0).float(), 5, 1, 2) == 0
    assert inside.sum() > 4 * 300
    assert (found - expected)[inside].abs().max() < 0.1
    ends = [(image != 0).any(1).nonzero().aminmax(dim=0) for image in (found, expected)]
    assert all((one - other).abs().max() <= 1 for one, other in zip(*ends, strict=True))


def test_slices_of_the_training_spacing_are_those_of_training():
    image = smooth((1, 1), (128, 96))
    network = Seen()
    segment(network, image, (1, 1), (2, 2))
    expected, _ = prepare_slice(image[..., 0], np.zeros(image.shape[1:3], np.uint8), 64)
    assert np.abs(network.image[0].numpy() - expected.astype(np.float32)).max() < 2e-3


@pytest.mark.parametrize("step", [(0.5, 0.5), (2, 2), (1, 3), (3, 1)])
def test_labels_come_back_to_the_grid_of_the_scan(step):
    image = smooth(step, (120, 96), shift=(9, -12))
    found, _ = segment(Pointwise(), image, step, (2, 2))
    assert found.shape == image.shape[1:]
    brain = image[0] != 0
    high = (image[0] - image[0][brain].mean()) / image[0][brain].std() > 0.1
    dice = 2 * ((found == 2) & high).sum() / ((found == 2).sum() + high.sum())
    assert dice > 0.9


def test_prediction_needs_no_lightning():
    """Which takes longer to import than a patient's slices take to predict on a GPU."""
    modules = "brain_tumor.training.segmentation.prediction, brain_tumor.training.classification.saliency"
    code = f"import sys, {modules}; sys.exit('lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
