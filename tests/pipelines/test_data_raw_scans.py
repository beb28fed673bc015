import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from dicom_files import write_nifti
from kedro.framework.startup import bootstrap_project
from nibabel.affines import apply_affine
from scipy.spatial.transform import Rotation
from support import copy_project, run

from brain_tumor.cli import segment
from brain_tumor.data.raw_scans import registration
from brain_tumor.data.raw_scans.atlas import AFFINE, load_atlas
from brain_tumor.data.raw_scans.checks import measure_overlap
from brain_tumor.data.raw_scans.grids import resample
from brain_tumor.data.scans.nifti_volumes import read_volume
from brain_tumor.networks import build
from brain_tumor.networks.trained import TrainedNetwork, write_network
from brain_tumor.pipelines.data_raw_scans.nodes import list_placed
from brain_tumor.project.inference import run_inference

for library in ("SimpleITK", "deepbet"):
    pytest.importorskip(library, reason=f"the extra raw is not installed ({library})")

pydicom = pytest.importorskip("pydicom", reason="the extra raw is not installed (pydicom)")

NAMES = ("flair", "t1", "t1ce", "t2")
SIZES = {"in_channels": 4, "out_channels": 3, "n_filters": 2}


def save_like(file, target):
    target.parent.mkdir(exist_ok=True)
    shutil.copy(file, target)


def contrasts(atlas):
    """Four modalities of one brain, 0 outside."""
    brain = atlas > 0
    tumour = np.linalg.norm(np.argwhere(brain) - [150, 110, 90], axis=1) < 14
    marked = np.zeros(atlas.shape, bool)
    marked[tuple(np.argwhere(brain)[tumour].T)] = True
    t1 = atlas * 1000
    flair = np.where(brain, 300 + 0.5 * t1, 0) + 900 * marked
    return [flair, t1, t1 + 800 * marked, np.where(brain, 1200 - t1, 0) + 500 * marked]


def save_moved(folder, patient, seed):
    """A patient as scanned: each modality turned and shifted in its own way, in slices of 4 mm."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    atlas = load_atlas()
    centre = np.array([-118.5, 104, 76])
    moved = {}
    for name, voxels in zip(NAMES, contrasts(atlas.voxels), strict=True):
        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.from_euler("xyz", rng.uniform(-8, 8, 3), degrees=True).as_matrix()
        matrix[:3, 3] = centre - matrix[:3, :3] @ centre + rng.uniform(-10, 10, 3)
        grid = np.diag([-2.0, -2, 4, 1])
        shape = (120, 130, 46)
        grid[:3, 3] = centre - grid[:3, :3] @ (np.array(shape) - 1) / 2
        found = resample(voxels.astype(np.float32), atlas.grid, shape, grid, matrix)
        image = nib.Nifti1Image(np.round(found).astype(np.int16), grid)
        image.header["descrip"] = b"Jane Doe"
        nib.save(image, folder / f"{patient}_{name}.nii.gz")
        moved[name] = matrix
    return moved


def small_network(data_set):
    torch.manual_seed(0)
    about = {"data_set": data_set.name, "modalities": data_set.modality_names, "tissues": data_set.tissue_names}
    about |= {"slice_size": 32, "pixel_mm": [7.5, 7.5], "simulated": True}
    return TrainedNetwork("classic_unet", SIZES, about, (build("classic_unet", **SIZES).state_dict(),))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project after `data_raw_scans`, with how the first patient was moved; the second lacks a modality."""
    project, source = copy_project(tmp_path_factory.mktemp("project")), tmp_path_factory.mktemp("source")
    moved = save_moved(source / "P1", "P1", 0)
    save_moved(source / "P2", "P2", 1)
    (source / "P2" / "P2_t2.nii.gz").unlink()
    (source / "SIMULATED.txt").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registration, "LEVELS", ((8.0, 60), (4.0, 60)))
        patch.setattr(registration, "SAMPLES", 20_000)
        patch.chdir(project)
        run(project, "data_raw_scans", raw_source=str(source), preparation={"workers": 1})
    return project / "data", moved


def test_scans_lie_in_the_position_of_brats(finished):
    data, _ = finished
    for name in NAMES:
        voxels, affine = read_volume(data / f"03_primary/raw_scans/P1_{name}.nii.gz")
        np.testing.assert_array_equal(affine, AFFINE)
        assert measure_overlap(voxels > 0) > 0.9
        assert voxels[0].max() == 0


def test_modalities_are_found_where_they_were_moved(finished):
    data, moved = finished
    table = pd.read_csv(data / "02_intermediate/raw_scans/transforms.csv", dtype={"excluded": object})
    table["excluded"] = table["excluded"].fillna("")
    atlas = pd.read_csv(data / "02_intermediate/raw_scans/atlas_transforms.csv")
    ((patient, matrices, _, state),) = list_placed(table, atlas)
    assert (patient, state) == ("P1", "stripped")
    corners = np.array([-118.5, 104, 76]) + 50 * (np.indices((2, 2, 2)).reshape(3, 8).T * 2 - 1)
    for modality, name in (("FLAIR", "flair"), ("T1", "t1"), ("T2", "t2")):
        expected = np.linalg.inv(moved[name]) @ moved["t1ce"]
        apart = np.linalg.norm(apply_affine(matrices[modality], corners) - apply_affine(expected, corners), axis=1)
        assert apart.mean() < 2.5


def test_a_patient_who_lacks_a_modality_is_set_aside_with_the_reason(finished):
    data, _ = finished
    quality = pd.read_csv(data / "08_reporting/raw_scans/quality.csv", keep_default_na=False).set_index("patient")
    assert "no T2 volume" in quality.loc["P2", "excluded"]
    assert quality.loc["P1", "excluded"] == ""
    assert 900 < float(quality.loc["P1", "brain_ml"]) < 1900


def test_the_report_shows_each_patient(finished):
    data, _ = finished
    page = (data / "08_reporting/raw_scans/preparation_report.html").read_text(encoding="utf-8")
    assert "1 patients are prepared" in page
    assert page.count("data:image/webp") == 1
    assert "no T2 volume" in page
    assert "SIMULATED" in page
    assert (data / "03_primary/raw_scans/SIMULATED.txt").is_file()


def test_headers_carry_no_free_text(finished):
    data, _ = finished
    for folder in ("02_intermediate/raw_scans/native", "03_primary/raw_scans"):
        for file in (data / folder).glob("*.nii.gz"):
            assert b"Doe" not in bytes(nib.load(file).header.binaryblock)


def test_a_mask_comes_back_onto_the_raw_scan(finished, monkeypatch):
    data, _ = finished
    masks = data / "07_model_output/inference/masks"
    masks.mkdir(parents=True)
    prepared = nib.load(data / "03_primary/raw_scans/P1_t1ce.nii.gz")
    bright = np.asarray(prepared.dataobj) > 1300
    assert bright.any()
    nib.save(nib.Nifti1Image(bright.astype(np.uint8) * 2, prepared.affine), masks / "P1_seg.nii.gz")
    monkeypatch.chdir(data.parent)
    run(data.parent, "inference_raw", ["inference_raw.return_masks"])
    returned = nib.load(data / "07_model_output/inference/native_masks/P1_seg.nii.gz")
    raw = nib.load(data / "02_intermediate/raw_scans/native/P1_t1ce.nii.gz")
    np.testing.assert_array_equal(returned.affine, raw.affine)
    found, expected = np.asarray(returned.dataobj) == 2, np.asarray(raw.dataobj) > 1300
    assert 2 * np.count_nonzero(found & expected) / (found.sum() + expected.sum()) > 0.8


def test_one_command_segments_raw_scans_into_one_folder(finished, tmp_path, brats, monkeypatch):
    """`kedro segment --raw` on a scan that is prepared already, which is taken as it is."""
    data, _ = finished
    for name in NAMES:
        for patient in ("P1", "P2"):
            save_like(data / f"03_primary/raw_scans/P1_{name}.nii.gz", tmp_path / f"scans/{patient}_{name}.nii.gz")
    (tmp_path / "scans/P2_t2.nii.gz").unlink()
    write_network(tmp_path / "network.safetensors", small_network(brats))
    monkeypatch.chdir(data.parent)
    words = [str(tmp_path / "scans"), "--raw", "--network", str(tmp_path / "network.safetensors"), "--output", "out"]
    result = CliRunner().invoke(segment, words, obj=bootstrap_project(data.parent))
    assert result.exit_code == 0, result.output
    last = result.output.splitlines()[-1]
    assert last == (
        "1 patient segmented, 1 excluded (the report has the reasons). Look first at out/preparation_report.html. "
        "Masks: out/native_masks. Report: out/segmentation_report.html"
    )
    out = data.parent / "out"
    assert (out / "preparation_report.html").is_file()
    assert (out / "viewers/P1.html").is_file()
    mask, scan = (nib.load(out / name) for name in ("native_masks/P1_seg.nii.gz", "native/P1_t1ce.nii.gz"))
    assert mask.shape == scan.shape
    np.testing.assert_array_equal(mask.affine, scan.affine)


def test_a_patient_without_a_modality_is_segmented_if_that_is_asked_for(finished, tmp_path, brats, monkeypatch):
    data, _ = finished
    for name in NAMES:
        for patient in ("P1", "P2", "P3"):
            save_like(data / f"03_primary/raw_scans/P1_{name}.nii.gz", tmp_path / f"scans/{patient}_{name}.nii.gz")
    (tmp_path / "scans/P2_t1.nii.gz").unlink()  # the brain is extracted from it
    (tmp_path / "scans/P3_t1ce.nii.gz").unlink()  # the others are registered to it
    write_network(tmp_path / "network.safetensors", small_network(brats))
    monkeypatch.chdir(data.parent)
    words = [str(tmp_path / "scans"), "--raw", "--network", str(tmp_path / "network.safetensors"), "--output", "two"]
    words += ["--params", "inference_missing_modalities=zero"]
    result = CliRunner().invoke(segment, words, obj=bootstrap_project(data.parent))
    assert result.exit_code == 0, result.output
    out = data.parent / "two"
    volumes = pd.read_csv(out / "volumes.csv", keep_default_na=False).set_index("patient")
    assert list(volumes.index) == ["P1", "P2"]
    assert "T1 is missing, the network gets 0 instead" in volumes.loc["P2", "warnings"]
    assert (out / "native_masks/P2_seg.nii.gz").is_file()
    assert not (out / "native/P2_t1.nii.gz").exists()
    quality = pd.read_csv(out / "quality.csv", keep_default_na=False).set_index("patient")
    assert "give modalities that are there for `data_raw_scans.reference`" in quality.loc["P3", "excluded"]
    assert "no T1 volume" in (out / "preparation_report.html").read_text(encoding="utf-8")


def test_dicom_comes_in_and_dicom_seg_goes_out(finished, tmp_path, brats, monkeypatch):
    """A study as DICOM through the whole command: the object has the mask, voxel for voxel."""
    pytest.importorskip("dcm2niix", reason="the extra raw is not installed (dcm2niix)")
    highdicom = pytest.importorskip("highdicom", reason="the extra dicom is not installed (highdicom)")
    data, _ = finished
    kinds = {
        "flair": {"description": "AX FLAIR", "RepetitionTime": 9000, "EchoTime": 120, "InversionTime": 2500},
        "t1": {"description": "AX T1"},
        "t1ce": {"description": "AX T1 POST", "ContrastBolusAgent": "Gd"},
        "t2": {"description": "AX T2", "RepetitionTime": 4000, "EchoTime": 100},
    }
    files = {}
    for number, (name, about) in enumerate(kinds.items(), start=1):
        scan = data / f"03_primary/raw_scans/P1_{name}.nii.gz"
        files[name] = write_nifti(scan, tmp_path / f"scans/P7/{number}", number, **about)
    write_network(tmp_path / "network.safetensors", small_network(brats))
    monkeypatch.chdir(data.parent)
    words = [str(tmp_path / "scans"), "--raw", "--network", str(tmp_path / "network.safetensors"), "--output", "four"]
    result = CliRunner().invoke(segment, words, obj=bootstrap_project(data.parent))
    assert result.exit_code == 0, result.output
    out = data.parent / "four"
    # Turned as the slices of the series are: columns to the left, rows to the back, slices to the head.
    mask = np.asarray(nib.as_closest_canonical(nib.load(out / "native_masks/P7_seg.nii.gz")).dataobj)[::-1, ::-1]
    assert nib.aff2axcodes(nib.load(data / "03_primary/raw_scans/P1_t1ce.nii.gz").affine) == ("L", "P", "S")
    found = highdicom.seg.segread(out / "dicom_seg/P7.dcm")
    uids = [pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in files["t1ce"]]
    pixels = found.get_pixels_by_source_instance(uids, combine_segments=True)
    assert (pixels > 0).any()
    labels = np.select([mask == 1, mask == 2, mask == 4], [1, 2, 3])
    np.testing.assert_array_equal(pixels.transpose(2, 1, 0), labels)


def test_a_network_that_does_not_fit_is_refused_before_anything_is_prepared(finished, tmp_path, brats, monkeypatch):
    data, _ = finished
    save_like(data / "03_primary/raw_scans/P1_t1ce.nii.gz", tmp_path / "scans/P1_t1ce.nii.gz")
    network = small_network(brats)
    other = network.description | {"modalities": ["T1ce", "T2"]}
    write_network(tmp_path / "network.safetensors", replace(network, description=other))
    monkeypatch.chdir(data.parent)
    params = {"raw_source": str(tmp_path / "scans"), "inference_output": "three"}
    with pytest.raises(ValueError, match="was trained on modalities"):
        run(data.parent, "inference_raw", inference_network=str(tmp_path / "network.safetensors"), **params)
    assert not (data.parent / "three").exists()


@pytest.mark.parametrize("output", ["scans", "scans/results", "."])
def test_results_among_the_scans_are_refused(tmp_path, output):
    (tmp_path / "scans").mkdir()
    with pytest.raises(ValueError, match="holds the scans, or lies among them; give the results a folder of their own"):
        run_inference(tmp_path, "inference_raw", tmp_path / "scans", output=tmp_path / output)
