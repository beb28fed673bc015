import pytest
import torch

from brain_tumor.networks import build, describe
from brain_tumor.networks.adapted import AdaptedNetwork, find_padding
from brain_tumor.networks.library import is_outside, rename_sizes, require_installed, require_trusted
from brain_tumor.networks.trained import TrainedNetwork, read_network, write_network

SIZES = {"in_channels": 4, "out_channels": 3, "image_size": 64}
DYNUNET = "monai.networks.nets.DynUNet"
DEEP = {"kernel_size": [3] * 6, "strides": [1, 2, 2, 2, 2, 2], "upsample_kernel_size": [2] * 5, "filters": [4] * 6}


def test_sizes_by_other_names_are_renamed_and_one_by_two_names_is_refused():
    assert rename_sizes("timm:a", {"in_chans": 3, "drop_rate": 0.1}) == {"in_channels": 3, "drop_rate": 0.1}
    assert rename_sizes("classic_unet", {"n_filters": 8}) == {"n_filters": 8}
    with pytest.raises(ValueError, match="give in_channels twice"):
        rename_sizes("timm:a", {"in_chans": 3, "in_channels": 1})
    with pytest.raises(ValueError, match="can't have encoder_weights; use the setting `pretrained`"):
        rename_sizes("segmentation_models_pytorch.Unet", {"encoder_weights": "imagenet"})


def test_sides_are_padded_to_what_the_network_takes():
    sizes = find_padding(DYNUNET, SIZES | DEEP, maps=True)
    assert sizes["pad_to"] == 32  # five halvings
    network = build(DYNUNET, **sizes).eval()
    assert network(torch.zeros(1, 4, 48, 80)).shape == (1, 3, 48, 80)


def test_a_layer_with_two_names_is_kept_once_and_loaded_into_both(tmp_path):
    sizes = find_padding(DYNUNET, SIZES | DEEP, maps=True)
    network = build(DYNUNET, **sizes)
    state = network.state_dict()
    assert len({value.data_ptr() for value in state.values()}) == len(state)
    assert len(state) < len(network.network.state_dict())
    write_network(tmp_path / "n.safetensors", TrainedNetwork(DYNUNET, sizes, {}, (state,)))
    x = torch.rand(1, 4, 64, 64)
    again = read_network(tmp_path / "n.safetensors").module()
    torch.testing.assert_close(again(x), network.eval()(x))


def test_padding_does_not_move_the_output():
    network = AdaptedNetwork("torch.nn.Conv2d", pad_to=8, kernel_size=1, **SIZES)
    x = torch.rand(2, 4, 13, 18)
    torch.testing.assert_close(network(x), network.network(x))


def test_random_numbers_of_training_are_as_without_a_try():
    torch.manual_seed(3)
    find_padding(DYNUNET, SIZES | DEEP, maps=True)
    tried = torch.rand(3)
    torch.manual_seed(3)
    assert torch.equal(tried, torch.rand(3))


@pytest.mark.parametrize(
    ("name", "sizes", "message"),
    [
        (DYNUNET, {}, "needs kernel_size, strides, upsample_kernel_size, which nobody gave"),
        (DYNUNET, DEEP | {"filter": [4]}, "has no argument filter; did you mean 'filters'"),
        (DYNUNET, DEEP | {"deep_supervision": True}, "in training it gives logits .* switch deep supervision off"),
        (DYNUNET, DEEP | {"strides": [2, 2, 2, 2, 2, 2]}, "its output is smaller than its input"),
        (DYNUNET, DEEP | {"filters": [4, 4]}, "can't be built with .*filters"),
        (
            "monai.networks.nets.DynaUNet",
            {},
            "there is no network DynaUNet in .*; did you mean 'DynUN",
        ),
        ("monai.network.nets.DynUNet", {}, "there is no module monai.network.nets"),
        ("monai.networks.nets.DynUNet", DEEP | {"x": "{channels}"}, "what can be filled in is {in_channels}"),
        ("torch.nn.PReLU", {}, "has no argument called in_channels or in_chans"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_training(name, sizes, message):
    with pytest.raises(ValueError, match=message):
        find_padding(name, SIZES | sizes, maps=True)


def test_an_argument_of_any_name_is_declared():
    network = build("torch.nn.PReLU", num_parameters="{in_channels}", init={"out_channels": None}, **SIZES)
    assert network.network.weight.tolist() == [3.0] * 4


def test_the_map_that_saliency_is_made_from_is_found_or_declared():
    sizes = {"in_channels": 1, "out_channels": 4, "init_features": 4, "growth_rate": 2, "block_config": [1, 1]}
    network = build("monai.networks.nets.DenseNet121", **sizes)
    x = torch.zeros(1, 1, 64, 64)
    assert network.find_cam_layer(x) == "class_layers.relu"
    declared = build("monai.networks.nets.DenseNet121", cam_layer="features.conv0", **sizes)
    assert declared.find_cam_layer(x) == "features.conv0"
    wrong = build("monai.networks.nets.DenseNet121", cam_layer="features.conv9", **sizes)
    with pytest.raises(ValueError, match=r"no module features\.conv9"):
        wrong.find_cam_layer(x)


def test_timm_by_name():
    pytest.importorskip("timm", exc_type=ImportError)
    with pytest.raises(ValueError, match="timm has no model efficientnet_lit0; did you mean 'efficientnet_lite0'"):
        build("timm:efficientnet_lit0", **SIZES)
    assert build("timm:vit_tiny_patch16_224", **SIZES)(torch.zeros(1, 4, 64, 64)).shape == (1, 3)
    assert describe("timm:convnext_atto").startswith("timm:convnext_atto, of timm 1.")


def test_packages_that_are_not_known_are_trusted_by_name():
    assert not is_outside("classic_unet")
    assert not is_outside("timm:convnext_atto")
    assert is_outside("my.Net")
    assert not is_outside("my.Net", ["my"])
    with pytest.raises(ValueError, match=r"here is my\.Net.*trusted_packages: \[my\]"):
        require_trusted("my.Net", ["other"], "here")


@pytest.mark.parametrize(("last", "maps"), [("Sigmoid()", True), ("Softmax(1)", False), ("Identity()", True)])
def test_a_network_that_gives_probabilities_is_warned_of(tmp_path, monkeypatch, caplog, last, maps):
    lines = ["from torch import nn", "class Net(nn.Sequential):", "    def __init__(self, in_channels, out_channels):"]
    pool = "" if maps else "nn.AdaptiveAvgPool2d(1), nn.Flatten(1), "
    lines.append(f"        super().__init__(nn.Conv2d(in_channels, out_channels, 1), {pool}nn.{last})")
    package = f"ends_in_{last[:7].lower()}"
    (tmp_path / f"{package}.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    sizes = {"in_channels": 4, "out_channels": 3} | ({} if maps else {"image_size": 32})
    find_padding(f"{package}.Net", rename_sizes(f"{package}.Net", sizes), maps=maps)
    assert ("between 0 and 1, and the losses take logits" in caplog.text) == (last != "Identity()")


def test_a_missing_library_names_the_command(monkeypatch):
    monkeypatch.setattr("brain_tumor.networks.library.find_spec", lambda package: None)
    with pytest.raises(ImportError, match=r"pip install 'brain-tumor-mri\[smp\]'"):
        require_installed("segmentation_models_pytorch.Unet")


def test_a_package_that_one_network_needs_is_named(tmp_path, monkeypatch):
    lines = ["from torch import nn", "class Net(nn.Module):", "    def __init__(self, in_channels, out_channels):"]
    (tmp_path / "needy.py").write_text("\n".join([*lines, "        import package_that_is_missing"]))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ImportError, match=r"needy\.Net can't be built: No module named 'package_that_is_missing'; install"
    ):
        build("needy.Net", **SIZES)
