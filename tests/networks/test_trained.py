import pytest
import torch
from safetensors.torch import save_file

from brain_tumor.networks import NETWORKS, build
from brain_tumor.networks.trained import TrainedNetwork, read_network, write_network

SIZES = {"n_filters": 4}


def test_several_members_answer_with_the_mean_of_their_probabilities():
    torch.manual_seed(0)
    networks = [build("classic_unet", **SIZES).eval() for _ in range(3)]
    trained = TrainedNetwork("classic_unet", SIZES, {}, tuple(network.state_dict() for network in networks))
    x = torch.randn(2, 4, 16, 16)
    with torch.no_grad():
        expected = torch.stack([network(x).sigmoid() for network in networks]).mean(0)
        torch.testing.assert_close(trained.module()(x).sigmoid(), expected, atol=1e-5, rtol=0)
        assert torch.equal(trained.member(1)(x), networks[1](x))
    assert trained.parameters == sum(p.numel() for p in networks[0].parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_are_counted_in_the_weights(name, monkeypatch):
    network = build(name)
    trained = TrainedNetwork(name, {}, {}, (network.state_dict(),))
    monkeypatch.setattr("brain_tumor.networks.trained.build", None)
    assert trained.parameters == sum(p.numel() for p in network.parameters())


def test_file_holds_every_member(tmp_path):
    members = tuple(build("classic_unet", **SIZES).state_dict() for _ in range(2))
    write_network(tmp_path / "network.safetensors", TrainedNetwork("classic_unet", SIZES, {"tissues": ["ET"]}, members))
    found = read_network(tmp_path / "network.safetensors")
    assert (found.name, found.sizes, found.description) == ("classic_unet", SIZES, {"tissues": ["ET"]})
    for one, other in zip(members, found.members, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_half_precision_halves_the_file_and_changes_weights_by_rounding_only(tmp_path):
    weights = build("improved_unet", **SIZES).state_dict()
    network = TrainedNetwork("improved_unet", SIZES, {}, (weights,))
    for half in (False, True):
        write_network(tmp_path / f"{half}.safetensors", network, half=half)
    assert (tmp_path / "True.safetensors").stat().st_size < 0.6 * (tmp_path / "False.safetensors").stat().st_size
    (found,) = read_network(tmp_path / "True.safetensors").members
    assert {name: value.dtype for name, value in found.items()} == {
        name: value.dtype for name, value in weights.items()
    }
    for name, value in weights.items():
        # fp16 has 11 significant bits, and steps of 2^-24 near 0.
        torch.testing.assert_close(found[name], value, rtol=2**-11, atol=2**-24)


def test_weights_beyond_half_precision_are_refused(tmp_path):
    weights = build("classic_unet", **SIZES).state_dict()
    name = next(iter(weights))
    weights[name] = weights[name] + 70_000
    with pytest.raises(ValueError, match=f"0.{name} has values beyond fp16's range; write it in fp32"):
        write_network(tmp_path / "n.safetensors", TrainedNetwork("classic_unet", SIZES, {}, (weights,)), half=True)


def test_what_is_no_network_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no network at .*nothing\.safetensors; train one"):
        read_network(tmp_path / "nothing.safetensors")
    (tmp_path / "text.safetensors").write_text("hello", encoding="utf-8")
    with pytest.raises(ValueError, match=r"text\.safetensors isn't a network that this project wrote"):
        read_network(tmp_path / "text.safetensors")
    save_file({"conv.weight": torch.ones(2)}, tmp_path / "library.safetensors", {"blocks": "no JSON"})
    with pytest.raises(ValueError, match=r"no sizes; weights of a library are for `pretrained`\)"):
        read_network(tmp_path / "library.safetensors")
