"""Training that starts from pretrained weights: what is frozen, at which rate the rest learns, what it is made from."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from squares import job, save_squares

from brain_tumor.networks import build
from brain_tumor.training.fit import fit
from brain_tumor.training.settings import ExperimentSettings, SegmentationRecipe
from brain_tumor.training.start import prepare_start, set_output_prior
from brain_tumor.training.task import FineTuning

RECIPE = SegmentationRecipe(epochs=2, batch_size=4, epoch_steps=3, checkpoint="last")
NETS = "monai.networks.nets"
DENSE = f"{NETS}.DenseNet121"
SMALL = {"init_features": 4, "growth_rate": 2, "block_config": [1, 1]}
NEEDED = {"in_channels": 1, "out_channels": 4, "image_size": 32}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return save_squares(tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize(("frozen", "changed"), [(0, True), (1, True), (2, False)])
def test_frozen_layers_keep_their_weights_for_as_many_epochs(store, tmp_path, frozen, changed):
    made = job(store, tmp_path, RECIPE)
    before = {name: value.clone() for name, value in made.task.network.state_dict().items()}
    encoder = frozenset(name for name in before if name.startswith("encoder."))
    made.task.fine_tuning = FineTuning(encoder, 1.0, frozen)
    after = fit(made).weights
    moved = {name: not torch.equal(before[name], after[name]) for name in before}
    assert all(moved[name] for name in before if name not in encoder)
    assert all(moved[name] == changed for name in encoder)


def test_pretrained_layers_learn_at_their_own_rate(store, tmp_path):
    recipe = SegmentationRecipe(epochs=1, batch_size=12, epoch_steps=1, schedule="exponential", checkpoint="last")
    steps = {}
    for rate in (1.0, 0.1):
        made = job(store, tmp_path / str(rate), recipe)
        before = {name: value.clone() for name, value in made.task.network.state_dict().items()}
        made.task.fine_tuning = FineTuning(frozenset({"encoder.0.0.weight"}), rate)
        fitted = fit(made)
        steps[rate] = {name: fitted.weights[name] - before[name] for name in ("encoder.0.0.weight", "head.weight")}
        assert fitted.log["learning_rate"].iloc[-1] > recipe.learning_rate / 2  # that of the other layers is logged
    torch.testing.assert_close(
        steps[0.1]["encoder.0.0.weight"], steps[1.0]["encoder.0.0.weight"] / 10, rtol=0.02, atol=2e-6
    )
    torch.testing.assert_close(steps[0.1]["head.weight"], steps[1.0]["head.weight"])


def experiment(path, **settings):
    return ExperimentSettings(network=DENSE, sizes=SMALL, pretrained=str(path) if path else False, **settings)


@pytest.fixture
def weights(tmp_path):
    network = build(DENSE, in_channels=3, out_channels=10, **SMALL)
    save_file(network.network.state_dict(), tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def test_a_start_says_where_its_weights_are_from(weights):
    start = prepare_start(experiment(weights, first_convolution="repeat", pretrained_rate=0.1), NEEDED, maps=False)
    network, fine_tuning, about = start.build()
    assert fine_tuning.rate == 0.1
    assert fine_tuning.names <= set(network.state_dict())
    assert about["code"]["package"] == "monai"
    assert about["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    pretrained = about["pretrained"]
    assert pretrained["source"] == "w.safetensors"
    assert pretrained["first_convolution"] == "repeat"
    assert pretrained["total"] - pretrained["fitted"] == 2  # weight and bias of the output layer


def test_other_weights_train_anew_and_none_change_nothing(weights):
    assert prepare_start(experiment(None), NEEDED, maps=False).made_from() == {}
    start = prepare_start(experiment(weights), NEEDED, maps=False)
    before = start.made_from()
    moved = weights.rename(weights.with_name("moved.safetensors"))
    assert replace(start, experiment=experiment(moved)).made_from() == before
    moved.write_bytes(moved.read_bytes() + b"\0")
    assert replace(start, experiment=experiment(moved)).made_from() != before


def test_images_are_normalised_as_the_weights_expect(tmp_path):
    pytest.importorskip("timm", exc_type=ImportError)
    lite = ExperimentSettings(network="timm:tf_efficientnet_lite0", pretrained="w.safetensors")
    start = prepare_start(lite, NEEDED, maps=False, grey=(64.0, 64.0))
    mean, std = (np.array(start.sizes[name]) for name in ("input_mean", "input_std"))
    # These weights expect values of 0 to 1 with mean 0.5 and standard deviation 0.5: from -1 to 1.
    levels = np.array([0.0, 127.5, 255.0])
    np.testing.assert_allclose(((levels - 64) / 64 - mean) / std, [-1, 0, 1], atol=1e-6)
    noise = prepare_start(lite.model_copy(update={"pretrained": False}), NEEDED, maps=False, grey=(64.0, 64.0))
    assert "input_mean" not in noise.sizes


@pytest.mark.parametrize("path", ["classic_unet", "residual_attention_unet", f"{NETS}.SegResNet", f"{NETS}.BasicUNet"])
def test_the_output_layer_starts_at_the_log_odds_of_a_prior(path):
    network = build(path, in_channels=4, out_channels=3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    drawn = torch.random.get_rng_state()
    assert set_output_prior(network, torch.zeros(1, 4, 64, 64), 3, 0.01)
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert network.training
    changed = {name: value for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    (bias,) = (value.clone() for value in changed.values())
    torch.testing.assert_close(bias.sigmoid(), torch.full((3,), 0.01))
    # Added to every logit, so it is the output layer's.
    x = torch.randn(1, 4, 64, 64)
    network.eval()
    after = network(x)
    network.load_state_dict(before)
    shift = (bias - before[next(iter(changed))])[:, None, None]
    torch.testing.assert_close(after, network(x) + shift, rtol=1e-4, atol=1e-4)


def test_a_network_whose_output_layer_has_no_bias_stays_as_it_is():
    network = torch.nn.Sequential(torch.nn.Conv2d(4, 3, 1), torch.nn.Conv2d(3, 3, 1, bias=False))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert not set_output_prior(network, torch.zeros(1, 4, 64, 64), 3, 0.01)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_prior_that_cannot_be_set_is_said(caplog):
    settings = ExperimentSettings(network="torch.nn.Conv2d", sizes={"kernel_size": 1, "bias": False})
    needed = {"in_channels": 4, "out_channels": 3, "image_size": 32}
    start = prepare_start(settings, needed, maps=True)
    start.build()
    assert "output_prior" not in caplog.text
    start.build(0.01)
    assert "torch.nn.Conv2d: no output layer with a bias is found; output_prior isn't used" in caplog.text


def test_pretrained_weights_of_the_whole_network_keep_their_bias(tmp_path):
    sizes = {"channels": [4, 8], "strides": [2]}
    trained = build(f"{NETS}.UNet", in_channels=4, out_channels=3, **sizes).network.state_dict()
    save_file(trained, tmp_path / "w.safetensors")
    settings = ExperimentSettings(network=f"{NETS}.UNet", sizes=sizes, pretrained=str(tmp_path / "w.safetensors"))
    start = prepare_start(settings, {"in_channels": 4, "out_channels": 3, "image_size": 32}, maps=True)
    network = start.build(0.01)[0]
    assert all(torch.equal(value, trained[name]) for name, value in network.network.state_dict().items())


@pytest.mark.parametrize(
    ("network", "prior", "expected"),
    [("classic_unet", None, 0.5), ("classic_unet", 0.1, 0.1), (f"{NETS}.SegResNet", None, 0.01)],
)
def test_a_library_network_starts_at_a_prior_unless_the_recipe_says_otherwise(network, prior, expected):
    settings = ExperimentSettings(network=network)
    start = prepare_start(settings, {"in_channels": 4, "out_channels": 3, "image_size": 64}, maps=True)
    # What the recipe of the file says is what was used.
    recipe = settings.adapt(SegmentationRecipe(output_prior=prior))
    assert recipe.output_prior == (expected if expected < 0.5 else 0)
    last = list(start.build(recipe.output_prior)[0].parameters())[-1]
    torch.testing.assert_close(last.sigmoid(), torch.full((3,), expected))
    if network != "classic_unet":
        last = list(start.build(0.0)[0].parameters())[-1]
        assert (last.sigmoid() - expected).abs().max() > 0.1
