import pytest
import torch

from brain_tumor.networks import NETWORKS, build, networks_of, vit
from brain_tumor.networks.trained import TrainedNetwork, read_network, write_network

PARAMETERS = {"cnn": 3_001_156, "alexnet": 4_589_316, "vgg16": 65_070_916, "vit": 21_459_460}
SMALL = {
    "cnn": {"n_filters": 6},
    "alexnet": {"n_filters": 6},
    "vgg16": {"n_filters": 4, "hidden": 32},
    "vit": {"width": 32, "depth": 2, "heads": 4, "hidden": 48},
}


@pytest.fixture(params=networks_of("classification"))
def name(request):
    torch.manual_seed(0)
    return request.param


@pytest.fixture
def network(name):
    return build(name, in_channels=1, image_size=96, **SMALL[name])


def test_parameter_counts_are_the_references(name):
    with torch.device("meta"):
        assert sum(p.numel() for p in build(name).parameters()) == PARAMETERS[name]


def test_every_network_is_pinned():
    assert set(PARAMETERS) == set(SMALL) == {name for name, (task, _) in NETWORKS.items() if task == "classification"}


@pytest.mark.parametrize(("channels", "size", "classes"), [(1, 128, 4), (3, 256, 4), (1, 96, 2)])
def test_gives_a_logit_for_each_class_at_every_size(name, channels, size, classes):
    network = build(name, in_channels=channels, image_size=size, out_channels=classes, **SMALL[name])
    assert network(torch.randn(2, channels, size, size)).shape == (2, classes)


def test_every_parameter_gets_a_gradient(network):
    network(torch.randn(4, 1, 96, 96)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_evaluation_does_not_mix_a_batch_and_drops_nothing(network):
    network.eval()
    x = torch.randn(3, 1, 96, 96)
    with torch.no_grad():
        assert torch.allclose(network(x)[1], network(x[1:2])[0], atol=1e-5)
        assert torch.equal(network(x), network(x))


def test_images_of_another_size_are_refused(network):
    with pytest.raises(
        ValueError, match="built for images of 96x96, got 128x96; build it with image_size=128, or prepare images of 96"
    ):
        network(torch.randn(1, 1, 128, 96))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cnn", "at least 69, got 60"),
        ("alexnet", "at least 69"),
        ("vgg16", "multiple of 32"),
        ("vit", "multiple of patch"),
    ],
)
def test_sizes_that_cannot_be_built_are_refused(name, words):
    with pytest.raises(ValueError, match=words):
        build(name, image_size=60)


def test_trained_network_gives_back_its_logits(name, network, tmp_path):
    sizes = {"in_channels": 1, "image_size": 96, **SMALL[name]}
    write_network(
        tmp_path / "a.safetensors", TrainedNetwork(name, sizes, {"classes": ["cat"]}, (network.state_dict(),))
    )
    x = torch.randn(2, 1, 96, 96)
    assert torch.equal(read_network(tmp_path / "a.safetensors").module()(x), network.eval()(x))


def test_attention_of_the_transformer_is_a_share_of_every_token():
    torch.manual_seed(0)
    network = build("vit", image_size=64, **SMALL["vit"]).eval()
    x = torch.randn(2, 3, 64, 64)
    maps = network.attention(x)
    assert maps.shape == (2, 2, 17, 17)
    assert torch.allclose(maps.sum(-1), torch.ones(2, 2, 17), atol=1e-5)
    first = network.layers[0]
    z = network.norm(network.embed(x))
    query, key = (
        torch.nn.functional.linear(z, w, b)
        for w, b in zip(
            first.self_attn.in_proj_weight.chunk(3)[:2], first.self_attn.in_proj_bias.chunk(3)[:2], strict=True
        )
    )
    by_hand = torch.stack(
        [(q @ k.mT / 8**0.5).softmax(-1) for q, k in zip(query.split(8, -1), key.split(8, -1), strict=True)]
    ).mean(0)
    assert torch.allclose(maps[:, 0], by_hand, atol=1e-5)


def test_a_vit_may_see_the_mean_of_pixels():
    torch.manual_seed(0)
    network, x = build("vit", image_size=64, shrink=2, **SMALL["vit"]).eval(), torch.randn(2, 3, 64, 64)
    plain = build("vit", image_size=32, **SMALL["vit"]).eval()
    plain.load_state_dict(network.state_dict())
    assert network.embed(x).shape == (2, 5, 32)
    assert torch.allclose(network(x), plain(x.reshape(2, 3, 32, 2, 32, 2).mean((3, 5))), atol=1e-5)
    with pytest.raises(ValueError, match="built for images of 64x64, got 32x32"):
        network(x[..., :32, :32])
    with pytest.raises(ValueError, match="multiple of patch times shrink, got 64, 16 and 3"):
        build("vit", image_size=64, shrink=3)


@pytest.mark.parametrize(("sizes", "share"), [({}, 0.2), ({"dropout": 0.0}, 0.0), ({"dropout": 0.1}, 0.1)])
def test_layers_of_a_vit_drop_what_they_are_told_to(sizes, share):
    layers = build("vit", image_size=64, **SMALL["vit"], **sizes).layers
    assert {module.p for module in layers.modules() if isinstance(module, torch.nn.Dropout)} == {share}
    assert {layer.self_attn.dropout for layer in layers} == {share}


def test_positions_of_a_vit_begin_as_places():
    """A patch's most similar patches are those beside it."""
    waves = vit.sincos_positions(6, 32)
    distance = torch.cdist(waves, waves)
    row, column = torch.arange(36) // 6, torch.arange(36) % 6
    steps = (row[:, None] - row).abs() + (column[:, None] - column).abs()
    assert distance[steps == 1].max() < distance[steps > 1].min()
    assert torch.equal(build("vit", image_size=96, **SMALL["vit"]).positions[1:], vit.sincos_positions(6, 32))


def test_a_vit_says_which_widths_it_takes():
    with pytest.raises(ValueError, match="width must be a multiple of 4, got 30"):
        build("vit", image_size=64, **SMALL["vit"] | {"width": 30, "heads": 2})
