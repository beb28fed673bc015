import numpy as np
import pytest
import torch
from squares import save_squares

from brain_tumor.data.common.bounding_box import BoundingBox
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


@pytest.mark.parametrize(("window", "shown"), [((16, 16), (32, 16)), ((16, 48), (32, 48)), ((64, 64), (64, 64))])
def test_a_volume_is_segmented_within_the_window_around_its_brain(window, shown):
    """What a network that looks at single pixels finds doesn't depend on the window.

    The image is twice as tall as wide, and padded.
    """
    image = np.zeros((4, 128, 64, 3), np.float32)
    image[:, 70:120, 20:44] = np.random.default_rng(0).normal(300, 40, (4, 50, 24, 3))
    network = Pointwise()
    found, probability = segment_volume(network, image, 64, window, DEVICE, tta_flip=False)
    assert network.shown == shown
    assert np.array_equal(found, segment_volume(network, image, 64, (64, 64), DEVICE, tta_flip=False)[0])
    # 127.5 of 255 is rounded to either side.
    assert (to_labels(probability.transpose(3, 0, 1, 2)).transpose(1, 2, 0) != found).mean() < 1e-3
    inside = found[70:120, 20:44]
    assert 0.3 < (inside == 2).mean() < 0.7
    assert (found > 0).sum() - (inside > 0).sum() < 0.1 * (inside > 0).sum()
