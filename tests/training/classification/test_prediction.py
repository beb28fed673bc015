from dataclasses import replace

import numpy as np
import pytest
import torch
from bars import SIZE, SMALL, save_bars

from brain_tumor.metrics.classification import to_probability
from brain_tumor.networks import build, networks_of
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.training.classification.normalisation import to_input
from brain_tumor.training.classification.prediction import predict_logits
from brain_tumor.training.classification.saliency import (
    attention_rollout,
    compute_saliency,
    first_kernels,
    hirescam,
    require_explainable,
    uniform_saliency,
    upsample_to_input,
)
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
    (found,) = predict_logits(trained, store, rows, CPU)
    image = torch.from_numpy(store.read(rows, "image")[0]).float()
    with torch.no_grad():
        assert np.allclose(found, network(to_input(image, 2)).numpy(), atol=1e-4)


def test_with_flips_the_probability_is_the_mean_over_an_image_and_its_mirror_image(network, trained, stores):
    store = stores[network.image_size]
    (found,) = predict_logits(replace(trained, description={"recipe": {"tta_flip": True}}), store, np.arange(6), CPU)
    image = to_input(torch.from_numpy(store.read(np.arange(6), "image")[0]).float(), 2)
    with torch.no_grad():
        plain, mirrored = (network(x).softmax(1).numpy() for x in (image, image.flip(-1)))
    assert np.abs(plain - mirrored).max() > 1e-4
    assert np.allclose(to_probability(found), (plain + mirrored) / 2, atol=1e-5)


FOUND = np.array([0, 1, 1, 0, 1, 0])


def test_heat_has_the_images_size_and_is_explained_the_same_twice(network, trained, stores):
    store = stores[network.image_size]
    heat = compute_saliency(trained, store, np.arange(6), FOUND, CPU)
    assert heat.shape == (6, network.image_size, network.image_size)
    assert np.isfinite(heat).all()
    assert (heat >= 0).all()
    np.testing.assert_array_equal(compute_saliency(trained, store, np.arange(6), FOUND, CPU), heat)


def test_explaining_leaves_the_network_as_it_was(network):
    if not hasattr(network, "features"):
        pytest.skip("has no convolutions to explain")
    x = torch.randn(2, 2, network.image_size, network.image_size)
    with torch.no_grad():
        before = network(x)
    hirescam(network, x, np.array([0, 1]))
    assert not any(module._forward_hooks for module in network.modules())
    assert all(value.grad is None for value in network.parameters())
    with torch.no_grad():
        assert torch.allclose(network(x), before, atol=1e-5)


def test_heat_of_an_image_does_not_depend_on_the_others_of_the_batch(network, trained, stores):
    store = stores[network.image_size]
    together = compute_saliency(trained, store, np.arange(6), FOUND, CPU)
    alone = [compute_saliency(trained, store, np.array([k]), FOUND[k : k + 1], CPU)[0] for k in range(6)]
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-5 * together.max())
    if hasattr(network, "features"):
        other = compute_saliency(trained, store, np.arange(6), 1 - FOUND, CPU)
        assert not np.allclose(together, other, atol=1e-2 * together.max())


def test_with_flips_heat_is_the_mean_over_an_image_and_its_mirror_image(network, trained, stores):
    store = stores[network.image_size]
    both = compute_saliency(
        replace(trained, description={"recipe": {"tta_flip": True}}), store, np.arange(6), FOUND, CPU
    )
    plain = compute_saliency(trained, store, np.arange(6), FOUND, CPU)
    x = to_input(torch.from_numpy(store.read(np.arange(6), "image")[0]).float(), 2).flip(-1)
    mirrored = (
        (hirescam(network, x, FOUND) if hasattr(network, "features") else attention_rollout(network, x))
        .flip(-1)[:, 0]
        .numpy()
    )
    np.testing.assert_allclose(both, (plain + mirrored) / 2, rtol=1e-3, atol=1e-5 * both.max())


@pytest.mark.parametrize("name", ["cnn", "alexnet", "vgg16"])
def test_a_place_of_the_map_is_laid_where_what_it_sees_is(name):
    """What a place of the last map sees is where the image's gradient is.

    Its middle is where the map's heat is laid.
    """
    torch.manual_seed(0)
    size = {"n_filters": 6} | ({"hidden": 16} if name == "vgg16" else {})
    layers = list(build(name, in_channels=1, image_size=128, **size).eval().features)[:-1]
    x = torch.rand(1, 1, 128, 128, requires_grad=True)
    made = torch.nn.Sequential(*layers)(x)
    places = torch.zeros_like(made[:, :1])
    middle = places.shape[-1] // 2
    places[..., middle, middle] = 1
    (seen,) = torch.autograd.grad((made * places).sum(), x)
    across = torch.arange(128.0)
    centres = [
        (across * weight).sum() / weight.sum()
        for weight in (seen.abs().sum((0, 1, 2)), upsample_to_input(places, layers, 128).sum((0, 1, 2)))
    ]
    assert abs(centres[0] - centres[1]) < 4


def test_flat_heat_is_that_of_a_map_which_is_the_same_everywhere(network, trained):
    flat, side = uniform_saliency(trained), network.image_size
    assert flat.shape == (side, side)
    if not hasattr(network, "features"):
        assert (flat == 1).all()
        return
    layers = list(network.features)[:-1]
    one = (
        upsample_to_input(
            torch.ones_like(torch.nn.Sequential(*layers)(torch.zeros(1, 2, side, side))[:, :1]), layers, side
        )[0, 0]
        .detach()
        .numpy()
    )
    assert np.array_equal(flat, one)
    assert 0.1 < flat.mean() <= 1
    both = uniform_saliency(replace(trained, description={"recipe": {"tta_flip": True}}))
    np.testing.assert_allclose(both, (one + one[:, ::-1]) / 2)


def test_a_network_that_cannot_be_explained_is_refused_before_training():
    for name in networks_of("classification"):
        require_explainable(build(name, in_channels=2, out_channels=2, **SMALL[name]))
    with pytest.raises(ValueError, match=r"Linear has no `features` that can be explained; make it an nn\.Sequential"):
        require_explainable(torch.nn.Linear(2, 2))


class Bright(torch.nn.Module):
    """Finds class 1 where the left half is bright; its first and only map is the image."""

    def __init__(self):
        super().__init__()
        self.image_size = SIZE
        self.features = torch.nn.Sequential(
            torch.nn.Conv2d(1, 1, 1, bias=False), torch.nn.ReLU(), torch.nn.MaxPool2d(2)
        )
        torch.nn.init.ones_(self.features[0].weight)

    def forward(self, x):
        left = self.features(x)[..., : x.shape[-1] // 4].mean((1, 2, 3))
        return torch.stack([torch.zeros_like(left), left], 1)


def test_heat_lies_where_the_evidence_is_and_the_network_looks(stores):
    """In blocks of 2 x 2, of which pooling takes the brightest pixel; bright pixels on the right change nothing."""
    image = stores[SIZE].read(np.arange(6), "image")[0][:, 0].astype(float)
    heat = hirescam(Bright(), to_input(torch.from_numpy(image[:, None]).float(), 1), np.ones(6, int))[:, 0].numpy()
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
    heat = attention_rollout(network, torch.randn(2, 1, SIZE, SIZE))
    assert heat.shape == (2, 1, SIZE, SIZE)
    assert torch.allclose(heat, heat.mean(), rtol=1e-4)


def test_kernels_are_those_of_the_first_layer(network):
    kernels = first_kernels(network)
    assert kernels.ndim == 3
    assert kernels.shape[1] == kernels.shape[2] in (3, 9, 16)
