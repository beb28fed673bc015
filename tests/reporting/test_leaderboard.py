import pandas as pd
import pytest

from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.reporting.leaderboard import find_source, lead
from brain_tumor.reporting.start import tell_start


def trained(name="cnn", **description):
    return TrainedNetwork(name, {}, {"parameters": 1_000, "experiment": "mine"} | description, ({},))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("cnn", "this project"),
        ("timm:resnet18", "timm"),
        ("monai.networks.nets.UNet", "MONAI"),
        ("segmentation_models_pytorch.Unet", "smp"),
        ("my_package.Net", "my_package"),
    ],
)
def test_source_is_whose_code_it_is(name, source):
    assert find_source(name) == source


def test_pretrained_says_by_whom():
    assert tell_start(trained()) == "no"
    assert tell_start(trained(initialised_from=None)) == "no"
    assert tell_start(trained(initialised_from={"data_set": "x"})) == "yes (this project)"
    assert tell_start(trained(pretrained={"source": "https://there/model.safetensors"})) == "yes (library)"
    assert tell_start(trained(pretrained={"source": "weights.pt"})) == "yes (file)"


def test_leaderboard_joins_scores_costs_and_source():
    networks = {"cnn": trained(), "mine": trained("timm:resnet18", pretrained={"source": "weights.pt"})}
    scores = pd.DataFrame({"network": ["mine", "cnn"], "accuracy": ["0.900 (0.850 to 0.940)", "0.800"]})
    costs = pd.DataFrame({"network": ["cnn", "mine"], "gflops": [0.1, 0.25], "a_second": [500.0, 80.0]})
    board = lead("Caption.", scores, networks, costs.assign(training_seconds=[61.4, 1234.0]), "image")
    assert board.shaded == ["accuracy"]
    assert board.caption.startswith("Caption. Parameters")
    assert board.data.to_dict("records") == [
        {
            "network": "mine",
            "accuracy": "0.900 (0.850 to 0.940)",
            "source": "timm",
            "pretrained": "yes (file)",
            "parameters": 1_000,
            "GFLOPs": 0.25,
            "ms per image": "12.5",
            "training, s": "1,234",
        },
        {
            "network": "CNN",
            "accuracy": "0.800",
            "source": "this project",
            "pretrained": "no",
            "parameters": 1_000,
            "GFLOPs": 0.1,
            "ms per image": "2.0",
            "training, s": "61",
        },
    ]
