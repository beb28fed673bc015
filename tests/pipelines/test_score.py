"""`kedro score`: folders of masks, as other programs leave them."""

import logging
import re

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project
from support import copy_project

from brain_tumor.cli import score
from brain_tumor.data.scans.find_scans import find_masks
from brain_tumor.data.scans.mask_pairs import pair_masks, read_pair
from brain_tumor.pipelines.score.nodes import explain_same

AFFINE = np.diag([-1.0, -1, 2, 1])
RESULTS = "data/08_reporting/score"


def draw(shift=0, labels=(1, 2, 4)):
    """A tumour of NCR, ED and ET, moved by some rows."""
    mask = np.zeros((32, 30, 8), np.uint8)
    ncr, ed, et = labels
    mask[8 + shift : 20 + shift, 8:20, 2:6] = ed
    mask[10 + shift : 16 + shift, 10:16, 3:5] = et
    mask[12 + shift : 14 + shift, 12:14, 3:5] = ncr
    return mask


def save(file, mask, affine=AFFINE):
    file.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(mask, affine), file)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Reference masks as BraTS has them, with a scan each; two predictions as nnU-Net has them, in labels 1, 2, 3.

    `first` is moved by a row, and has no mask of `c`; of `second` one has unknown labels, one lies elsewhere, and one
    is of somebody else. `d` has no tumour.
    """
    root = tmp_path_factory.mktemp("masks")
    names = ("a", "b", "c", "d", "e", "f")
    for name in names:
        empty = name == "d"
        save(root / "reference" / name / f"{name}_seg.nii.gz", 0 * draw() if empty else draw())
        scan = np.zeros((32, 30, 8), np.int16)
        scan[2:-2, 2:-2] = 100 + np.arange(28)[:, None, None]
        save(root / "reference" / name / f"{name}_flair.nii.gz", scan)
        if name != "c":
            save(root / "first" / f"{name}.nii.gz", 0 * draw() if empty else draw(1, (1, 2, 3)))
        labels = (1, 2, 7) if name == "e" else (1, 2, 3)
        affine = AFFINE + 9 * np.eye(4, k=3) if name == "f" else AFFINE
        save(root / "second" / f"{name}.nii.gz", draw(3, labels), affine)
    save(root / "second" / "stranger.nii.gz", draw())
    (root / "second" / "plans.json").write_text("{}")
    return root


def invoke(project, *arguments):
    return CliRunner().invoke(score, list(arguments), obj=bootstrap_project(project), catch_exceptions=False)


@pytest.fixture(scope="module")
def scored(folders, tmp_path_factory):
    project = copy_project(tmp_path_factory.mktemp("project"))
    given = ["--prediction", str(folders / "first"), "--prediction", f"moved={folders / 'second'}", "--env", "test"]
    result = invoke(project, "--reference", str(folders / "reference"), *given)
    assert result.exit_code == 0, result.output
    return project


def read(project, name, **options):
    return pd.read_csv(project / RESULTS / f"{name}.csv", **options)


def test_everybody_is_scored_or_left_out_with_a_reason(scored):
    index = read(scored, "index", keep_default_na=False).set_index(["network", "patient"])
    excluded = index.loc[index["excluded"] != "", "excluded"]
    assert set(excluded.index) == {("first", "c"), ("moved", "e"), ("moved", "f"), ("moved", "stranger")}
    assert excluded["first", "c"] == "no predicted mask of that name"
    assert excluded["moved", "stranger"] == "no reference mask of that name"
    assert excluded["moved", "e"].startswith("e.nii.gz holds labels [7], declared for files of such names are NCR 1")
    assert "f.nii.gz (32x30x8 voxels of 1x1x2 mm from 9x0x0) lies elsewhere than f_seg" in excluded["moved", "f"]
    assert set(index.index[index["in_means"]]) == {(name, patient) for name in ("first", "moved") for patient in "abd"}


def test_scores_are_worked_by_hand(scored):
    scores = read(scored, "patient_scores").set_index(["network", "patient", "target", "metric"])["value"]
    # Of 12 rows 11 overlap, or 9: all other axes agree.
    assert scores["first", "a", "WT", "dice"] == pytest.approx(11 / 12)
    assert scores["moved", "b", "WT", "dice"] == pytest.approx(9 / 12)
    assert scores["moved", "b", "TC", "dice"] == pytest.approx(3 / 6)
    assert scores["first", "a", "WT", "lesion_dice"] == pytest.approx(11 / 12)
    assert scores["moved", "a", "WT", "hd95_mm"] == pytest.approx(3)
    # `d` has no tumour: `first` finds none, `moved` one.
    assert scores["first", "d", "WT", "dice"] == scores["first", "d", "WT", "lesion_dice"] == 1
    assert scores["moved", "d", "WT", "dice"] == scores["moved", "d", "WT", "lesion_dice"] == 0
    assert scores["moved", "d", "WT", "lesion_hd95_mm"] == 374
    # Scored alone, `e` is no part of the means.
    assert ("first", "e", "WT", "dice") in scores.index


def test_means_and_paired_differences_are_of_the_same_patients(scored):
    comparison = read(scored, "comparison").set_index(["network", "protocol", "target", "metric"])
    assert set(comparison["patients"].loc[:, :, "WT", "dice"]) == {3}
    assert comparison.loc[("first", "volume", "WT", "dice"), "mean"] == pytest.approx((11 / 12 * 2 + 1) / 3)
    assert comparison.loc[("moved", "lesion", "WT", "lesion_dice"), "mean"] == pytest.approx(9 / 12 * 2 / 3)
    differences = read(scored, "differences").set_index(["network", "baseline", "target", "metric"])
    row = differences.loc[("first", "moved", "WT", "dice")]
    assert row["difference"] == pytest.approx((2 / 12 * 2 + 1) / 3)
    assert row["low"] <= row["difference"] <= row["high"]
    assert differences.loc[("first", "moved", "WT", "lesion_dice"), "difference"] > 0
    lesions = read(scored, "lesions")
    invented = lesions[(lesions["outcome"] == "false positive") & (lesions["target"] == "WT")]
    assert invented[["network", "patient"]].to_numpy().tolist() == [["moved", "d"]]


def test_report(scored):
    report = (scored / RESULTS / "report.html").read_text()
    words = re.sub(r"\s+", " ", report)
    assert "first, the best of 2 predictions, reaches a mean Dice of 0.944 for WT on 3 patients" in words
    assert "4 of 7 are left out." in words
    assert "Lesion-wise protocol of BraTS 2023" in words
    assert "no predicted mask of that name" in words
    assert "test patient" not in words
    assert words.count("data:image/webp;base64,") == 2
    assert {file.name for file in (scored / RESULTS / "figures").glob("*.png")} == {"first.png", "moved.png"}


def test_masks_alone_are_drawn(folders, project):
    """One prediction, no scan; the project's own labels."""
    for name in ("a", "b"):
        save(project / "masks" / f"{name}_seg.nii.gz", draw())
    result = invoke(
        project,
        *("--reference", str(project / "masks"), "--prediction", str(folders / "first"), "--env", "test"),
    )
    assert result.exit_code == 0, result.output
    report = re.sub(r"\s+", " ", (project / RESULTS / "report.html").read_text())
    assert "first reaches a mean Dice of 0.917 for WT on 2 patients" in report
    assert "Other predictions" not in report


def test_a_folder_that_is_given_twice_is_reported(folders):
    assert explain_same(folders / "reference", {"first": folders / "first"}) == []
    same = {"x": folders / "reference", "y": folders / "first", "z": folders / "first"}
    first, second = explain_same(folders / "reference", same)
    assert first.startswith("x is the same folder as the reference masks")
    assert second.startswith("z is the same folder as y")


@pytest.mark.parametrize(
    ("reference", "prediction", "words"),
    [
        ("reference", "nowhere", "score_predictions.nowhere is .*nowhere, which isn't there; give a folder of masks"),
        ("nowhere", "first", "score_reference is .*nowhere, which isn't there; give a folder of masks"),
        ("reference", "empty", "empty is empty; give the folder of the masks with `--params score_predictions.empty"),
        ("reference", "other", "no patient has a usable mask in every folder; other, a: no predicted mask"),
        ("reference", "first=", "first has no folder; give NAME=FOLDER"),
        ("reference", "a.b=x", "a name has letters, digits, - and _, got 'a.b'"),
    ],
)
def test_nothing_to_score(folders, project, reference, prediction, words, caplog):
    (project / "empty").mkdir()
    save(project / "other" / "nobody.nii.gz", draw())
    place = project if (project / prediction).is_dir() else folders
    given = prediction if "=" in prediction else str(place / prediction)
    with caplog.at_level(logging.CRITICAL):
        result = invoke(project, "--reference", str(folders / reference), "--prediction", given, "--env", "test")
    assert result.exit_code != 0
    assert re.search(words, re.sub(r"\s+", " ", result.output)), result.output


def test_two_predictions_of_one_name_are_refused(folders, project):
    result = invoke(project, "--reference", "r", "--prediction", "x=a", "--prediction", "x=b")
    assert "'x' is there twice; give each a name of its own" in result.output


def test_files_without_a_suffix_are_masks_only_where_none_has_one(tmp_path, brats):
    save(tmp_path / "p1.nii.gz", draw())
    save(tmp_path / "fold_1" / "p2.nii.gz", draw())
    found = find_masks(tmp_path, brats, masks_only=True)
    assert [(each.patient, each.mask.name) for each in found] == [("p1", "p1.nii.gz"), ("p2", "p2.nii.gz")]
    with pytest.raises(FileNotFoundError, match="but no masks named"):
        find_masks(tmp_path, brats)
    save(tmp_path / "p3_seg.nii.gz", draw())
    assert [each.patient for each in find_masks(tmp_path, brats, masks_only=True)] == ["p3"]


def test_labels_are_those_of_the_names_in_each_folder(tmp_path, brats):
    """ET is 4 in a reference mask of BraTS 2020 and 3 in the prediction."""
    save(tmp_path / "reference" / "p_seg.nii.gz", draw())
    save(tmp_path / "predicted" / "p.nii.gz", draw(labels=(1, 2, 3)))
    (pair,) = pair_masks(tmp_path / "reference", {"n": tmp_path / "predicted"}, brats)
    masks = read_pair(pair, brats)
    np.testing.assert_array_equal(masks.reference, masks.predicted)
    assert set(np.unique(masks.reference)) == {0, 1, 2, 3}
    assert masks.spacing == (1.0, 1.0, 2.0)


def test_labels_in_another_order_are_noted(tmp_path, brats):
    """nnU-Net's own conversion of BraTS has ED 1 and NCR 2."""
    save(tmp_path / "reference" / "p_seg.nii.gz", draw())
    for name, labels in (("right", (1, 2, 3)), ("other", (2, 1, 3))):
        save(tmp_path / name / "p.nii.gz", draw(1, labels))
        (pair,) = pair_masks(tmp_path / "reference", {name: tmp_path / name}, brats)
        note = read_pair(pair, brats).explain_swap(brats.tissue_names)
        assert note == ("NCR and ED overlap better if their labels change places" if name == "other" else "")


def test_two_masks_of_one_patient_are_no_pair(tmp_path, brats):
    save(tmp_path / "reference" / "p_seg.nii.gz", draw())
    for fold in ("fold_0", "fold_1"):
        save(tmp_path / "predicted" / fold / "p.nii.gz", draw())
    (pair,) = pair_masks(tmp_path / "reference", {"n": tmp_path / "predicted"}, brats)
    assert re.search(r"several predicted masks: .*fold_0/p.nii.gz and .*fold_1/p.nii.gz; keep one", pair.problem)
