"""Networks of libraries, added by YAML alone: no file of the project is touched."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from kedro.framework.project import pipelines
from safetensors.torch import save_file
from support import run

from brain_tumor.data.common.store import Store
from brain_tumor.networks import build
from brain_tumor.networks.trained import read_network

UNETS = """
segmentation:
  recipe: {epochs: 1, epoch_steps: 1, batch_size: 2}
  classic_unet: {sizes: {n_filters: 4}}
  improved_unet: null
  attention_unet: null
  residual_attention_unet: null
"""
DYNUNET = """
  dynunet:
    network: monai.networks.nets.DynUNet
    sizes:
      kernel_size: [3, 3, 3]
      strides: [1, 2, 2]
      upsample_kernel_size: [2, 2]
      filters: [4, 8, 8]
"""
SMP_UNET = """
  resnet_unet:
    network: segmentation_models_pytorch.Unet
    sizes: {encoder_name: resnet18, encoder_depth: 3, decoder_channels: [8, 8, 4]}
"""
OWN = """
  mine:
    network: my_networks.Mine
    sizes: {n_in: "{in_channels}", n_out: "{out_channels}"}
"""
CODE = '''
from torch import nn


class Mine(nn.Conv2d):
    """One convolution."""

    def __init__(self, n_in, n_out):
        super().__init__(n_in, n_out, 3, padding=1)
'''
CLASSIFIERS = """
classification:
  recipe: {epochs: 1, epoch_steps: 1, batch_size: 4}
  cnn: {sizes: {n_filters: 6}}
  alexnet: null
  vgg16: null
  vit: null
"""
DENSENET = """
  densenet:
    network: monai.networks.nets.DenseNet121
    sizes: {init_features: 4, growth_rate: 2, block_config: [1, 1]}
    pretrained: PRETRAINED
    first_convolution: repeat
    pretrained_rate: 0.5
    frozen_epochs: 1
"""
TIMM = """
  lite0:
    network: timm:tf_efficientnet_lite0
  lite0_again:
    network: timm:tf_efficientnet_lite0
    learning_rate: 0.0001
"""
LIBRARIES = pytest.mark.parametrize(
    ("library", "block", "name"),
    [("monai", DYNUNET, "dynunet"), ("segmentation_models_pytorch", SMP_UNET, "resnet_unet")],
)


def write(project: Path, text: str) -> None:
    task = text.split(":")[0].strip()
    (project / f"conf/test/parameters_{task}.yml").write_text(text, encoding="utf-8")


@LIBRARIES
def test_a_library_s_unet_is_trained_scored_compared_and_carded(project, sample, library, block, name):
    pytest.importorskip(library, exc_type=ImportError)
    write(project, UNETS + block)
    run(project, segmentation_source=str(sample))
    data = project / "data"
    compared = pd.read_csv(data / "08_reporting/segmentation/comparison.csv")
    assert set(compared["network"]) == {"classic_unet", name}
    network = read_network(data / f"06_models/segmentation/{name}/network.safetensors")
    assert network.description["code"]["package"] == library
    assert network.description["code"]["outside"] is False
    module = network.module()
    assert network.parameters == sum(parameter.numel() for parameter in module.parameters())
    # Sides that aren't multiples of anything are padded, and cut back.
    assert module(torch.zeros(2, 4, 37, 51)).shape == (2, 3, 37, 51)
    card = (data / "08_reporting/segmentation/model_card.md").read_text(encoding="utf-8")
    assert f"**{name}**: {network.name}, of {library}" in card
    assert name in (data / "08_reporting/segmentation/report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("library", "block", "names"), [("monai", DENSENET, ["densenet"]), ("timm", TIMM, ["lite0", "lite0_again"])]
)
def test_a_library_s_classifier_is_trained_explained_and_carded(project, images, library, block, names):
    pytest.importorskip(library, exc_type=ImportError)
    weights = project / "pretrained.safetensors"
    colour = {"in_channels": 3, "out_channels": 9, "init_features": 4, "growth_rate": 2, "block_config": [1, 1]}
    save_file(build("monai.networks.nets.DenseNet121", **colour).network.state_dict(), weights)
    write(project, CLASSIFIERS + block.replace("PRETRAINED", str(weights)))
    run(project, "classification", classification_source=str(images))
    data = project / "data"
    compared = pd.read_csv(data / "08_reporting/classification/comparison.csv")
    assert set(compared["network"]) == {"cnn", *names}
    for name in names:
        network = read_network(data / f"06_models/classification/{name}/network.safetensors")
        assert network.description["code"]["package"] == library
        explained = Store(data / f"07_model_output/classification/{name}/explanations.h5")
        (maps,) = explained.read(np.arange(len(explained.rows)), "saliency")
        assert maps.shape[1:] == (network.sizes["image_size"],) * 2
        assert maps.any()
    card = (data / "08_reporting/classification/model_card.md").read_text(encoding="utf-8")
    assert all(f"**{name}**" in card for name in names)
    words = "starts from the pretrained weights pretrained.safetensors: "
    assert (words in card) == ("densenet" in names)
    assert ("the first convolution was adapted to the number of channels (repeat)" in card) == ("densenet" in names)


@pytest.fixture
def own(project, monkeypatch):
    """A package of the user's own on the path."""
    (project / "my_networks.py").write_text(CODE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(project))
    yield
    sys.modules.pop("my_networks", None)


def test_code_from_outside_is_asked_for(project, sample, own):
    write(project, UNETS + OWN)
    with pytest.raises(ValueError, match=r"segmentation\.mine\.network is my_networks\.Mine.*trusted_packages: \[my_n"):
        run(project, segmentation_source=str(sample))
    assert not (project / "data/03_primary").exists()  # before data are prepared
    parameters = project / "conf/base/parameters.yml"
    text = parameters.read_text(encoding="utf-8").replace("trusted_packages: []", "trusted_packages: [my_networks]")
    parameters.write_text(text, encoding="utf-8")
    run(project, segmentation_source=str(sample))
    path = project / "data/06_models/segmentation/mine/network.safetensors"
    with pytest.raises(ValueError, match=r"runs the code of my_networks.*trusted_packages: \[my_networks\]"):
        read_network(path)
    network = read_network(path, ["my_networks"])
    assert network.description["code"] == {"package": "my_networks", "version": None, "outside": True}
    # An edit of the user's file is an edit of what the network is made from.
    (project / "my_networks.py").write_text(CODE + "\nMORE = 1\n", encoding="utf-8")
    assert any(node.name == "segmentation.mine.train_network" for node in pipelines["segmentation"].nodes)


def test_a_misspelt_network_or_a_missing_library_stops_the_run_at_once(project, sample):
    write(project, UNETS + DYNUNET.replace("monai.networks.nets.DynUNet", "clasic_unet"))
    with pytest.raises(ValueError, match="there is no network 'clasic_unet'; did you mean 'classic_unet'"):
        run(project, segmentation_source=str(sample))
    write(project, UNETS + DYNUNET.replace("monai.", "monnai."))
    with pytest.raises(ValueError, match=r"trusted_packages: \[monnai\]"):
        run(project, segmentation_source=str(sample))
    with pytest.raises(ImportError, match="monnai, which isn't installed"):
        run(project, segmentation_source=str(sample), trusted_packages="monnai")
    write(project, UNETS + DYNUNET + "    pretrained: nowhere.safetensors\n")
    with pytest.raises(FileNotFoundError, match=r"segmentation\.dynunet\.pretrained is nowhere\.safetensors"):
        run(project, segmentation_source=str(sample))
    assert not (project / "data/03_primary").exists()


def test_a_name_that_cannot_be_a_namespace_is_refused(project):
    write(project, UNETS + DYNUNET.replace("dynunet:", "expert:"))
    with pytest.raises(ValueError, match=r"segmentation\.expert is no name of an experiment"):
        run(project)
