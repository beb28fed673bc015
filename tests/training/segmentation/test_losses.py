import numpy as np
import pytest
import torch
from monai.losses import DiceLoss, FocalLoss, TverskyLoss

from brain_tumor.training.segmentation import losses
from brain_tumor.training.segmentation.losses import DiceBCELoss, LibraryLoss, attention_loss
from brain_tumor.training.settings import ClassificationRecipe, SegmentationRecipe
from brain_tumor.training.task import make_optimiser


def test_loss_by_hand():
    logits = torch.zeros(1, 1, 2, 2)
    truth = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    # BCE of p = 0.5 is ln 2; soft Dice is 2 * 0.5 / (2 + 1)
    assert DiceBCELoss(0.0)(logits, truth).item() == pytest.approx(np.log(2), abs=1e-6)
    assert DiceBCELoss(1.0)(logits, truth).item() == pytest.approx(1 - 1 / 3, abs=1e-4)


def test_dice_is_monais():
    logits, truth = torch.randn(3, 3, 8, 8), (torch.rand(3, 3, 8, 8) < 0.3).float()
    truth[:, 1] = 0
    assert DiceBCELoss(1.0)(logits, truth).item() == pytest.approx(
        DiceLoss(sigmoid=True, batch=True)(logits, truth).item(), rel=1e-5
    )


def test_loss_of_summed_sums_is_the_loss_of_the_whole():
    logits, truth = torch.randn(5, 3, 8, 8), (torch.rand(5, 3, 8, 8) < 0.3).float()
    loss = DiceBCELoss(0.4)
    parts = loss.sums(logits[:2], truth[:2]) + loss.sums(logits[2:], truth[2:])
    assert loss.value(parts).item() == pytest.approx(loss(logits, truth).item(), rel=1e-5)


def test_tversky_is_monais():
    logits, truth = torch.randn(3, 3, 8, 8), (torch.rand(3, 3, 8, 8) < 0.3).float()
    theirs = TverskyLoss(sigmoid=True, batch=True, alpha=0.3, beta=0.7)(logits, truth).item()
    assert DiceBCELoss(1.0, tversky_beta=0.7)(logits, truth).item() == pytest.approx(theirs, rel=1e-4)


def test_focal_is_monais():
    logits, truth = torch.randn(3, 3, 8, 8), (torch.rand(3, 3, 8, 8) < 0.3).float()
    assert DiceBCELoss(0.0, focal_gamma=2.0)(logits, truth).item() == pytest.approx(
        FocalLoss(gamma=2.0)(logits, truth).item(), rel=1e-5
    )


def test_attention_loss_by_hand():
    tumour = torch.tensor([[[[1.0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]]])
    coarse = torch.tensor([[[[0.9, 0.1], [0.2, 0.5]]]])  # one cell of four has tumour
    expected = (-np.mean(np.log([0.9, 0.9, 0.8, 0.5])) + 1 - 2 * 0.9 / (1.7 + 1)) / 2
    coarse = coarse.logit()
    assert attention_loss({"one": coarse}, tumour).item() == pytest.approx(expected, rel=1e-4)
    other = (np.log(2) + 1 - 2 * 0.5 / (8 + 1)) / 2
    fine = torch.zeros(1, 1, 4, 4)
    assert attention_loss({"one": coarse, "two": fine}, tumour).item() == pytest.approx(
        (expected + other) / 2, rel=1e-4
    )


@pytest.mark.parametrize("dice_weight", [0.5, 1.0])
def test_a_cell_that_is_tumour_in_part_is_best_found_in_part(dice_weight):
    """Cells of coarse maps, which deep supervision learns from."""
    loss, part = DiceBCELoss(dice_weight), torch.full((1, 1, 4, 4), 0.3)
    losses = {
        share: loss(torch.full((1, 1, 4, 4), share).logit(), part).item() for share in (0.02, 0.1, 0.2, 0.3, 0.4, 0.6)
    }
    assert min(losses, key=losses.get) == 0.3


def test_attention_loss_of_two_processes_is_that_of_the_whole_batch(monkeypatch):
    maps, tumour = (
        {"a": torch.randn(4, 1, 4, 4), "b": torch.randn(4, 1, 8, 8)},
        (torch.rand(4, 1, 16, 16) < 0.02).float(),
    )
    tumour[2:] = 0
    shares: list[torch.Tensor] = []
    first, second = ({name: value[part] for name, value in maps.items()} for part in (slice(2), slice(2, 4)))
    monkeypatch.setattr(losses, "all_reduce_sum", lambda sums: shares.append(sums) or sums)
    attention_loss(second, tumour[2:])
    monkeypatch.setattr(losses, "all_reduce_sum", lambda sums: sums + shares.pop(0))
    together = attention_loss(first, tumour[:2])
    monkeypatch.setattr(losses, "all_reduce_sum", lambda sums: sums)
    assert together.item() == pytest.approx(attention_loss(maps, tumour).item())


def test_a_gate_that_has_closed_is_opened_again():
    """The gradient of a logit is no smaller for being far off."""
    tumour = torch.ones(1, 1, 4, 4)
    closed = torch.full((1, 1, 4, 4), -40.0, requires_grad=True)
    attention_loss({"gate": closed}, tumour).backward()
    assert (closed.grad < -0.01).all()


def test_a_loss_of_a_library_is_what_the_library_computes():
    logits, truth = torch.randn(5, 3, 16, 16), (torch.rand(5, 3, 16, 16) < 0.3).float()
    loss = LibraryLoss("monai.losses.TverskyLoss", {"sigmoid": True, "alpha": 0.3, "beta": 0.7}, 3)
    theirs = TverskyLoss(sigmoid=True, alpha=0.3, beta=0.7)
    assert loss(logits, truth).item() == pytest.approx(theirs(logits, truth).item(), rel=1e-6)
    # Of several batches the mean over their slices.
    sums = loss.sums(logits[:2], truth[:2]) + loss.sums(logits[2:], truth[2:])
    expected = (2 * theirs(logits[:2], truth[:2]) + 3 * theirs(logits[2:], truth[2:])) / 5
    assert loss.value(sums).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "arguments", "error", "words"),
    [
        (
            "monai.losses.DiceFocalLos",
            {},
            ValueError,
            "there is no loss DiceFocalLos in .*; did you mean 'DiceFocalLoss'",
        ),
        ("monai.losses.DiceLoss", {"sigmoi": True}, ValueError, "unexpected keyword .*; change `loss_arguments`"),
        ("monai.losses.DiceLoss", {"reduction": "none"}, ValueError, r"gives \(2, 3, 1, 1\), not a number"),
        ("torch.nn.CTCLoss", {}, ValueError, "doesn't take logits and targets of 2 x 3 x 32 x 32"),
        ("torch.optim.Adam", {}, ValueError, "there is no loss Adam in torch.optim, nor any other"),
        ("no_such_package.Loss", {}, ImportError, "needs the package no_such_package, which isn't installed"),
    ],
)
def test_what_is_no_loss_is_refused_before_training(name, arguments, error, words):
    with pytest.raises(error, match=words):
        LibraryLoss(name, arguments, 3)


@pytest.mark.parametrize("settings", [SegmentationRecipe, ClassificationRecipe])
@pytest.mark.parametrize("setting", ["loss", "optimiser"])
def test_a_name_that_is_neither_the_project_s_nor_a_path_is_refused(settings, setting):
    with pytest.raises(ValueError, match=f"or the path of a class, such as .*; got '{setting}x'"):
        settings(**{setting: f"{setting}x"})


def test_an_optimiser_of_a_library_gets_rate_weight_decay_and_its_arguments():
    groups = [{"params": [torch.nn.Parameter(torch.zeros(2))]}]
    chosen = {"optimiser": "torch.optim.NAdam", "optimiser_arguments": {"momentum_decay": 0.01}}
    optimiser = make_optimiser(groups, SegmentationRecipe(learning_rate=0.02, weight_decay=0.3, **chosen))
    assert isinstance(optimiser, torch.optim.NAdam)
    named = ("lr", "weight_decay", "momentum_decay")
    assert [optimiser.param_groups[0][name] for name in named] == [0.02, 0.3, 0.01]


@pytest.mark.parametrize("optimiser", ["torch.optim.NAdam", "adamw"])
def test_an_argument_that_an_optimiser_does_not_take_is_refused(optimiser):
    groups = [{"params": [torch.nn.Parameter(torch.zeros(2))]}]
    wrong = SegmentationRecipe(optimiser=optimiser, optimiser_arguments={"momentum": 0.9})
    with pytest.raises(ValueError, match="unexpected keyword argument 'momentum'; change `optimiser_arguments`"):
        make_optimiser(groups, wrong)


@pytest.mark.parametrize(("name", "words"), [("lr", "set the recipe's learning_rate"), ("fused", "is on for adam")])
def test_what_the_recipe_gives_is_no_argument_of_an_optimiser(name, words):
    with pytest.raises(ValueError, match=words):
        SegmentationRecipe(optimiser_arguments={name: 1})


def test_an_optimiser_without_weight_decay_takes_0():
    groups = [{"params": [torch.nn.Parameter(torch.zeros(2))]}]
    rprop = make_optimiser(groups, SegmentationRecipe(optimiser="torch.optim.Rprop", weight_decay=0))
    assert isinstance(rprop, torch.optim.Rprop)
    with pytest.raises(ValueError, match="Rprop has no weight decay; set the recipe's weight_decay to 0"):
        make_optimiser(groups, SegmentationRecipe(optimiser="torch.optim.Rprop", weight_decay=0.1))


def test_no_weight_decay_is_none_whatever_the_default_of_the_class():
    groups = [{"params": [torch.nn.Parameter(torch.zeros(2))]}]
    adamw = make_optimiser(groups, SegmentationRecipe(optimiser="torch.optim.AdamW", weight_decay=0))
    assert adamw.param_groups[0]["weight_decay"] == 0
