import numpy as np
import pytest
import torch
from squares import save_squares

from brain_tumor.networks import build
from brain_tumor.networks.attention import watch
from brain_tumor.training.device import choose_device
from brain_tumor.training.predict import find_attention, find_probabilities
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
    found = np.concatenate(list(find_probabilities(network.eval(), store, rows, DEVICE, flips=False, batch_size=2)))
    with torch.no_grad():
        expected = network(torch.from_numpy(store.read(rows, "image")[0]).float()).sigmoid().numpy()
    assert found.shape == (3, 3, 32, 32)
    assert np.abs(found / 255 - expected).max() <= 0.5 / 255 + 1e-4


def test_mirrored_slices_are_averaged(store, network):
    rows = np.array([0])
    (both,) = find_probabilities(network.eval(), store, rows, DEVICE, flips=True)
    image = torch.from_numpy(store.read(rows, "image")[0]).float()
    with torch.no_grad():
        expected = (network(image).sigmoid() + network(image.flip(2)).sigmoid().flip(2)) / 2
    assert np.abs(both / 255 - expected.numpy()).max() <= 0.5 / 255 + 1e-4


def test_attention_is_brought_to_the_size_of_the_slice(store, network):
    rows = np.arange(5)
    maps = find_attention(network.eval(), store, rows, DEVICE, batch_size=2)
    assert list(maps) == ["gates.0", "gates.1", "gates.2", "gates.3"]
    assert all(m.shape == (5, 32, 32) for m in maps.values())
    with torch.no_grad(), watch(network) as seen:
        network(torch.from_numpy(store.read(rows, "image")[0]).float())
    assert np.abs(maps["gates.3"] - seen["gates.3"][:, 0].numpy()).max() < 1e-3
    assert np.allclose(maps["gates.0"][:, 0, 0], seen["gates.0"][:, 0, 0, 0], atol=1e-3)  # corners stay corners
