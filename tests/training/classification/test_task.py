from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bars import SIZE, SMALL, save_bars
from sklearn.metrics import f1_score
from squares import CPU, assert_gradients_agree, digest, gradient_of_a_step

from brain_tumor.networks import build
from brain_tumor.training.batches import Rows
from brain_tumor.training.checkpoints import Checkpoints
from brain_tumor.training.classification.augmentation import augment, mixup, sample_augmentation
from brain_tumor.training.classification.normalisation import to_input
from brain_tumor.training.classification.task import MONITOR, NAMES, ClassificationTask, macro_f1
from brain_tumor.training.fit import Job, fit
from brain_tumor.training.settings import ClassificationRecipe, ExperimentSettings, ImageAugmentation

BUSY = ImageAugmentation(affine=0.5, intensity=0.5, vertical_flip=0.2, mixup=0.3)
SHORT = ClassificationRecipe(
    epochs=2, batch_size=4, epoch_steps=3, augmentation=BUSY, label_smoothing=0.1, balanced=True
)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Two classes: a bar that lies, a bar that stands, in noise."""
    return {side: save_bars(tmp_path_factory.mktemp("store"), side) for side in (SIZE, 32)}


def job(stores, folder, recipe, name="cnn", engine=CPU, counts=(12, 12), **sizes):
    torch.manual_seed(engine.seed)
    network = build(name, in_channels=3, out_channels=2, **SMALL[name] | sizes)
    rows = Rows(stores[SMALL[name]["image_size"]], np.arange(24), NAMES)
    return Job(
        ClassificationTask(network, 3, list(counts), recipe, engine.seed),
        rows,
        rows,
        MONITOR,
        recipe,
        engine,
        Checkpoints(folder),
    )


@pytest.mark.parametrize("name", SMALL)
def test_learns_a_tiny_data_set_by_heart(shapes, tmp_path, name):
    rate = {"vit": 3e-3}.get(name, 1e-3)
    recipe = ClassificationRecipe(
        epochs=5,
        batch_size=8,
        epoch_steps=12,
        learning_rate=rate,
        gradient_clip=1,
        augmentation=ImageAugmentation(horizontal_flip=0),
    )
    fitted = fit(job(shapes, tmp_path, recipe, name))
    assert fitted.kept["validation_accuracy"] > 0.95
    assert fitted.kept[MONITOR] == fitted.log[MONITOR].max()
    assert fitted.log[MONITOR].to_numpy() == pytest.approx(np.exp(-fitted.log["validation_loss"]))


def test_two_processes_agree_with_one_where_a_class_is_rare(shapes, tmp_path):
    """Rare images weigh more, so the mean of the losses of two shares is not the loss of the batch.

    Without dropout: each process draws its own.
    """
    step = SHORT.model_copy(update={"epochs": 1, "epoch_steps": 1, "batch_size": 24})
    engines = {"one": CPU, "two": CPU.model_copy(update={"devices": 2})}
    made = {
        name: job(shapes, tmp_path / name, step, "vit", engine, (22, 2), dropout=0.0)
        for name, engine in engines.items()
    }
    one, two = (gradient_of_a_step(each) for each in made.values())
    assert_gradients_agree(one, two)
    losses = [fit(each).log[["train_loss", "validation_loss"]].to_numpy() for each in made.values()]
    # The second is that after a step of Adam, which takes whole steps along gradients that are nothing but rounding.
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)


@pytest.mark.parametrize("name", ["cnn", "vit"])
def test_same_seed_same_weights_whether_resident_or_streamed(shapes, tmp_path, name):
    """Dropout and augmentation included."""
    first = fit(job(shapes, tmp_path / "a", SHORT, name))
    streamed = fit(job(shapes, tmp_path / "b", SHORT, name, CPU.model_copy(update={"resident_gb": 0.0})))
    other = fit(job(shapes, tmp_path / "c", SHORT, name, CPU.model_copy(update={"seed": 1})))
    assert digest(first) == digest(streamed) != digest(other)


def test_sizes_are_whole_where_they_can_be():
    sizes = ExperimentSettings(network="vit", sizes={"width": 96.0, "dropout": 0.2}).sizes
    assert (sizes, type(sizes["width"])) == ({"width": 96, "dropout": 0.2}, int)


def test_an_experiment_does_what_it_says_otherwise():
    adapted = ExperimentSettings(network="vit", batch_size=3, ema_decay=0.5, learning_rate=0.1).adapt(SHORT)
    assert adapted == SHORT.model_copy(update={"batch_size": 3, "ema_decay": 0.5, "learning_rate": 0.1})


def test_goes_on_from_a_checkpoint_to_the_same_weights(shapes, tmp_path, caplog):
    whole = fit(job(shapes, tmp_path / "whole", SHORT))
    made = job(shapes, tmp_path / "parts", SHORT)

    def stop(*_):
        raise KeyboardInterrupt

    made.task.on_train_epoch_start = lambda: stop() if made.task.current_epoch == 1 else None
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(made)
    assert "the same command goes on" in caplog.text
    assert digest(fit(job(shapes, tmp_path / "parts", SHORT))) == digest(whole)


def test_loss_that_is_not_finite_names_the_files(shapes, tmp_path):
    made = job(shapes, tmp_path, SHORT.model_copy(update={"learning_rate": 1e30}))
    with pytest.raises(ValueError, match=r"the loss is nan in epoch \d on the batch of bar_\d+\.jpg, bar_"):
        fit(made)


def test_rare_classes_count_as_much():
    recipe = ClassificationRecipe(balanced=True)
    weight = ClassificationTask(torch.nn.Identity(), 1, [90, 10], recipe, 0).weight
    assert (weight * torch.tensor([0.9, 0.1])).tolist() == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("settings", [{"balanced": True}, {"label_smoothing": 0.1}])
def test_loss_of_a_training_step_is_torchs_cross_entropy(settings):
    recipe = ClassificationRecipe(**settings, batch_size=12, augmentation=ImageAugmentation(horizontal_flip=0))
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    task = ClassificationTask(network, 1, [90, 10, 30], recipe, 0)
    task._trainer = SimpleNamespace(world_size=1, global_rank=0, current_epoch=0)
    task.log = lambda *_, **__: None
    image = torch.randint(0, 256, (12, 1, 4, 4), generator=torch.Generator().manual_seed(0)).float()
    label = torch.arange(12, dtype=torch.uint8) % 3
    loss, logits = task.training_step({"image": image, "label": label}, 0), network(to_input(image, 1))
    smoothing = settings.get("label_smoothing", 0.0)
    assert loss.item() == pytest.approx(
        torch.nn.functional.cross_entropy(logits, label.long(), task.weight, label_smoothing=smoothing).item()
    )


def test_loss_of_a_training_step_may_be_a_library_s():
    recipe = ClassificationRecipe(label_smoothing=0.1, loss="torch.nn.MSELoss", loss_arguments={"reduction": "sum"})
    task = ClassificationTask(torch.nn.Identity(), 1, [5, 5], recipe, 0)
    logits, target = torch.randn(4, 2), task.target(torch.tensor([0, 1, 1, 0], dtype=torch.uint8))
    assert task._loss(logits, target).item() == pytest.approx(((logits - target) ** 2).sum().item(), rel=1e-6)


def test_blended_images_have_the_classes_of_both():
    """Whole batches and their shares in two processes alike."""
    image, truth = torch.arange(8.0).reshape(8, 1, 1, 1), torch.eye(8)
    params, settings = torch.linspace(-1, 1, 8), ImageAugmentation(mixup=0.5)
    blended, classes = mixup(image, truth, params, settings)
    assert classes.sum(1).tolist() == pytest.approx([1] * 8)
    assert blended.flatten().tolist() == pytest.approx((classes @ torch.arange(8.0)).tolist())
    assert blended.flatten().tolist() == pytest.approx(
        [k + share / 2 * ((k + 4) % 8 - k) for k, share in enumerate(np.linspace(0, 1, 8))]
    )
    parts = [mixup(image[rank::2], truth[rank::2], params[rank::2], settings)[1] for rank in (0, 1)]
    assert torch.equal(torch.stack(parts, 1).flatten(0, 1), classes)
    assert mixup(image, truth, params, ImageAugmentation())[0] is image


def test_macro_f1_is_sklearns():
    rng = np.random.default_rng(0)
    there, found = rng.integers(0, 4, (2, 200))
    pairs = torch.bincount(torch.from_numpy(there * 4 + found), minlength=16).reshape(4, 4)
    assert macro_f1(pairs).item() == pytest.approx(f1_score(there, found, average="macro"))


def test_input_is_grey_in_every_channel():
    x = to_input(torch.tensor([0.0, 64.0, 128.0]).reshape(1, 1, 1, 3), 3)
    assert x.shape == (1, 3, 1, 3)
    assert x[0, :, 0].tolist() == [[-1, 0, 1]] * 3


def picture():
    image = torch.zeros(6, 1, 64, 64)
    image[:, :, 20:30, 12:40] = 100.0
    return image


def params(**fixed):
    drawn = sample_augmentation(6, 0, 0, 0)
    return drawn | {name: torch.full((6,), value) for name, value in fixed.items()}


def test_nothing_happens_unless_asked_for():
    assert torch.equal(augment(picture(), params(), ImageAugmentation(horizontal_flip=0)), picture())


def test_flips_shifts_and_turns_do_what_they_say():
    image = picture()
    assert torch.equal(augment(image, params(), ImageAugmentation(horizontal_flip=1)), image.flip(-1))
    assert torch.equal(augment(image, params(), ImageAugmentation(horizontal_flip=0, vertical_flip=1)), image.flip(-2))
    still = {"rotation": 0.0, "scaling": 0.0, "down": 0.0, "right": 0.0}
    warp = ImageAugmentation(horizontal_flip=0, affine=1, shift=0.125, rotation=90, scaling=0.5)
    assert torch.allclose(augment(image, params(**still), warp), image, atol=1e-3)
    assert torch.allclose(augment(image, params(**still | {"right": 1.0}), warp), image.roll(-8, -1), atol=1e-3)
    assert torch.allclose(
        augment(image, params(**still | {"rotation": 1.0}), warp), torch.rot90(image, 1, (-2, -1)), atol=1e-2
    )
    area = (augment(image, params(**still | {"scaling": 1.0}), warp) / 100).sum((1, 2, 3))
    assert area.tolist() == pytest.approx([280 * 1.5**2] * 6, rel=0.05)


def test_intensities_stay_in_their_range_and_black_stays_black():
    image = picture()
    bright = augment(
        image,
        params(contrast=1.0, brightness=1.0),
        ImageAugmentation(horizontal_flip=0, intensity=1, contrast=0.5, brightness=0.9),
    )
    assert bright.max() <= 255
    assert (bright[image == 0] == 0).all()
    assert (bright[image > 0] > 100).all()


def test_stretching_keeps_the_area():
    still = {"rotation": 0.0, "scaling": 0.0, "down": 0.0, "right": 0.0}
    stretched = augment(
        picture(), params(**still, stretch=1.0), ImageAugmentation(horizontal_flip=0, affine=1, stretch=0.5)
    )
    assert (stretched / 100).sum((1, 2, 3)).tolist() == pytest.approx([280] * 6, rel=0.05)
    tall, wide = (stretched[0, 0] > 50).any(1).sum().item(), (stretched[0, 0] > 50).any(0).sum().item()
    # 10 x 28 pixels before; the ratio of height to width is 1.5 times as large
    assert tall / wide == pytest.approx(1.5 * 10 / 28, rel=0.1)


def test_gamma_is_an_exponent_of_grey_levels():
    still = {"contrast": 0.0, "brightness": 0.0}
    settings = ImageAugmentation(horizontal_flip=0, intensity=1, gamma=1.0)
    for drawn, exponent in ((1.0, 2), (-1.0, 0.5), (0.0, 1)):
        changed = augment(picture(), params(**still, gamma=drawn), settings)
        assert changed.max().item() == pytest.approx(255 * (100 / 255) ** exponent, rel=1e-4)
        assert (changed[picture() == 0] == 0).all()


def test_blur_is_scipy_s():
    from scipy.ndimage import gaussian_filter

    still = {"contrast": 0.0, "brightness": 0.0}
    settings = ImageAugmentation(horizontal_flip=0, intensity=1, blur=2.0)
    drawn = params(**still) | {"blur": torch.tensor([-1.0, -0.5, 0.0, 0.25, 0.5, 1.0])}
    changed = augment(picture(), drawn, settings)
    assert torch.allclose(changed[0], picture()[0], atol=1e-3)
    for image, sigma in zip(changed[1:], (0.5, 1.0, 1.25, 1.5, 2.0), strict=True):
        expected = gaussian_filter(picture()[0, 0].numpy(), sigma, mode="constant", radius=6)
        np.testing.assert_allclose(image[0].numpy(), expected, atol=0.01)


def test_augmentation_is_a_function_of_seed_epoch_and_place():
    first, again, other = (sample_augmentation(6, *place) for place in ((0, 1, 2), (0, 1, 2), (0, 1, 3)))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["rotation"], other["rotation"])
