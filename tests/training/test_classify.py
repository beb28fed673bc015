from dataclasses import replace

import numpy as np
import pytest
import torch
from bars import SIZE, SMALL, save_bars

from brain_tumor.metrics.classification import to_probability
from brain_tumor.networks import build, networks_of
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.training.classification import to_input
from brain_tumor.training.classify import find_heat, find_logits, first_kernels, roll_out
from brain_tumor.training.device import choose_device
from brain_tumor.training.settings import EngineSettings

CPU = choose_device(EngineSettings(device="cpu", precision="fp32"))


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    return {side: save_bars(tmp_path_factory.mktemp("store"), side, count=6) for side in (SIZE, 32)}


@pytest.fixture(params=networks_of("classification"))
def network(request):
    torch.manual_seed(0)
    return build(request.param, in_channels=2, out_channels=2, **SMALL[request.param]).eval()


@pytest.fixture
def trained(network):
    name = type(network).__name__.lower()
    return TrainedNetwork(name, {"in_channels": 2, "out_channels": 2, **SMALL[name]}, {}, (network.state_dict(),))


def test_logits_are_the_networks(network, trained, stores):
    store = stores[network.image_size]
    rows = np.array([4, 0, 5])
    (found,) = find_logits(trained, store, rows, CPU)
    image = torch.from_numpy(store.read(rows, "image")[0]).float()
    with torch.no_grad():
        assert np.allclose(found, network(to_input(image, 2)).numpy(), atol=1e-4)


def test_with_flips_the_probability_is_the_mean_over_an_image_and_its_mirror_image(network, trained, stores):
    store = stores[network.image_size]
    (found,) = find_logits(replace(trained, description={"recipe": {"flips": True}}), store, np.arange(6), CPU)
    image = to_input(torch.from_numpy(store.read(np.arange(6), "image")[0]).float(), 2)
    with torch.no_grad():
        plain, mirrored = (network(x).softmax(1).numpy() for x in (image, image.flip(-1)))
    assert np.abs(plain - mirrored).max() > 1e-4
    assert np.allclose(to_probability(found), (plain + mirrored) / 2, atol=1e-5)


def test_heat_has_the_images_size_and_leaves_the_network_as_it_was(network, stores):
    store = stores[network.image_size]
    rows = np.arange(6)
    image = to_input(torch.from_numpy(store.read(rows, "image")[0]).float(), 2)
    with torch.no_grad():
        before = network(image)
    heat = find_heat(network, store, rows, np.array([0, 1, 1, 0, 1, 0]), CPU, channels=2)
    assert heat.shape == (6, network.image_size, network.image_size)
    assert np.isfinite(heat).all()
    assert (heat >= 0).all()
    with torch.no_grad():
        assert torch.allclose(network(image), before, atol=1e-5)


def test_heat_of_an_image_does_not_depend_on_the_others_of_the_batch(network, stores):
    store, found = stores[network.image_size], np.array([0, 1, 1, 0, 1, 0])
    together = find_heat(network, store, np.arange(6), found, CPU, channels=2)
    alone = [find_heat(network, store, np.array([k]), found[k : k + 1], CPU, channels=2)[0] for k in range(6)]
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-5 * together.max())
    if hasattr(network, "features"):
        other = find_heat(network, store, np.arange(6), 1 - found, CPU, channels=2)
        assert not np.allclose(together, other, atol=1e-2 * together.max())


class Bright(torch.nn.Module):
    """Finds class 1 where the left half is bright; its first and only map is the image."""

    def __init__(self):
        super().__init__()
        self.image_size = SIZE
        self.features = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1, bias=False), torch.nn.ReLU(), torch.nn.MaxPool2d(2))
        torch.nn.init.ones_(self.features[0].weight)

    def forward(self, x):
        left = self.features(x)[..., : x.shape[-1] // 4].mean((1, 2, 3))
        return torch.stack([torch.zeros_like(left), left], 1)


def test_heat_lies_where_the_evidence_is_and_the_network_looks(stores):
    """In blocks of 2 x 2, of which pooling takes the brightest pixel; bright pixels on the right change nothing."""
    heat = find_heat(Bright(), stores[SIZE], np.arange(6), np.ones(6, int), CPU, channels=1)
    image = stores[SIZE].read(np.arange(6), "image")[0][:, 0].astype(float)
    unseen = 0
    for one, grey in zip(heat, image, strict=True):
        blocks = [values.reshape(SIZE // 2, 2, SIZE // 2, 2).max((1, 3)) for values in (one, np.maximum(grey - 64, 0))]
        (shown, shown_right), (evidence, evidence_right) = (np.split(values, 2, axis=1) for values in blocks)
        unseen += evidence_right.any()
        assert not shown_right.any()
        assert np.corrcoef(shown.ravel(), evidence.ravel())[0, 1] > 0.99
    assert unseen > 1


def test_rollout_of_flat_attention_is_flat():
    network = build("vit", in_channels=1, **SMALL["vit"]).eval()
    for layer in network.layers:
        torch.nn.init.zeros_(layer.self_attn.in_proj_weight)
    heat = roll_out(network, torch.randn(2, 1, SIZE, SIZE))
    assert heat.shape == (2, 1, SIZE, SIZE)
    assert torch.allclose(heat, heat.mean(), rtol=1e-4)


def test_kernels_are_those_of_the_first_layer(network):
    kernels = first_kernels(network)
    assert kernels.ndim == 3
    assert kernels.shape[1] == kernels.shape[2] in (3, 9, 16)
