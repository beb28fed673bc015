import shutil
from pathlib import Path

import joblib
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from support import run, save_patient

from brain_tumor.data.common.parallel import WorkerSettings
from brain_tumor.data.common.store import Store
from brain_tumor.data.scans.preparation import PreparationSettings
from brain_tumor.pipelines.data_segmentation.nodes import index_slices, prepare_slices

STROKE = """
data_segmentation:
  data_set:
    name: Stroke
    modalities:
      - {name: DWI, suffixes: [dwi]}
      - {name: ADC, suffixes: [adc]}
      - {name: FLAIR, suffixes: [flair]}
    mask: [lesion]
    tissues:
      - {name: infarct, labels: [255]}
    regions: []
"""


def test_another_data_set_needs_yaml_only(project, tmp_path, rng):
    """Three modalities, one binary mask of 0 and 255, patients in one flat folder, 2 mm voxels."""
    source = tmp_path / "stroke"
    source.mkdir()
    for patient in ("s1", "s2", "s3"):
        mask = np.zeros((40, 36, 4), np.uint8)
        mask[15:22, 10:18, 1:3] = 255
        brain = np.zeros(mask.shape)
        brain[5:35, 5:30] = 1
        for ending in ("dwi", "adc", "flair"):
            volume = brain * (100 + 10 * rng.random(mask.shape) + mask / 2)
            nib.save(
                nib.Nifti1Image(volume.astype(np.float32), np.diag([-2, -2, 5, 1])),
                source / f"{patient}-{ending}.nii.gz",
            )
        nib.save(nib.Nifti1Image(mask, np.diag([-2, -2, 5, 1])), source / f"{patient}-lesion.nii.gz")
    (project / "conf/test/parameters_data_segmentation.yml").write_text(STROKE + "  preparation: {slice_size: 32}\n")
    run(project, segmentation_source=str(source))
    store = Store(project / "data/03_primary/segmentation/slices.h5")
    assert store.description["targets"] == {"infarct": [1]}
    assert store.read(np.array([0]), "image")[0].shape == (1, 3, 32, 32)
    assert store.rows["row_mm"].iloc[0] == pytest.approx(40 * 2 / 32)
    patients = pd.read_csv(project / "data/02_intermediate/segmentation/patients.csv")
    assert patients["infarct_ml"].tolist() == pytest.approx([7 * 8 * 2 * 20 / 1000] * 3)
    comparison = pd.read_csv(project / "data/08_reporting/segmentation/comparison.csv")
    assert set(comparison.query("protocol == 'volume'")["target"]) == {"infarct"}
    assert "Segmentation of Stroke" in (project / "data/08_reporting/segmentation/report.html").read_text()


def test_numbers_are_names_of_patients(project, tmp_path, rng):
    """007 stays 007 in every table, and the two visits of a person stay together."""
    names = ["007", "098", "099", "100", "1e5", "BraTS-GLI-00001-000", "BraTS-GLI-00001-001"]
    for name in names:
        volumes, mask = np.zeros((4, 16, 20, 6)), np.zeros((16, 20, 6))
        volumes[:, 3:13, 3:17] = rng.uniform(50, 100, (4, 10, 14, 6))
        enhancing = 3 if name.startswith("BraTS-") else 4  # as the names have it
        mask[5:9, 5:10] = rng.choice([1, 2, enhancing], (4, 5, 6))
        save_patient(tmp_path / "scans" / name, name, volumes.astype(np.int16), mask)
    run(project, segmentation_source=str(tmp_path / "scans"))
    store = Store(project / "data/03_primary/segmentation/slices.h5")
    assert sorted(set(store.rows["patient"])) == names
    splits = pd.read_csv(project / "data/05_model_input/segmentation/splits.csv", dtype=str)
    assert splits["patient"].tolist() == names
    assert splits["person"].tolist() == [*names[:5], "BraTS-GLI-00001", "BraTS-GLI-00001"]
    tested = splits.loc[splits["split"] == "test", "patient"].tolist()
    scores = pd.read_csv(
        project / "data/08_reporting/segmentation/classic_unet/patient_scores.csv", dtype={"patient": str}
    )
    assert sorted(scores["patient"].unique()) == tested


def test_what_could_not_be_opened_is_looked_at_again(project, sample, monkeypatch):
    """The file is as it was, so its state says nothing of what has passed."""
    opened = Path.read_bytes

    def refuse(path):
        if path.name == "volume_2_slice_74.h5":
            raise PermissionError(1, "Operation not permitted")
        return opened(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    nodes = ["data_segmentation.index_slices"]
    index = run(
        project, "data_engineering", node_names=nodes, segmentation_source=str(sample), preparation={"workers": 1}
    )["segmentation.index"].load()
    assert index.loc[index["excluded"] != "", "slice"].tolist() == [74]
    monkeypatch.undo()
    index = run(
        project, "data_engineering", node_names=nodes, segmentation_source=str(sample), preparation={"workers": 1}
    )["segmentation.index"].load()
    assert (index["excluded"] == "").all()


def test_a_person_declared_later_changes_no_slice(project, sample):
    run(project, "data_engineering", segmentation_source=str(sample))
    store = project / "data/03_primary/segmentation/slices.h5"
    before = store.stat().st_mtime_ns
    run(
        project,
        "data_engineering",
        segmentation_source=str(sample),
        data_segmentation={"data_set": {"person": "(.*_00)[12]"}},
    )
    assert store.stat().st_mtime_ns == before
    persons = pd.read_csv(project / "data/02_intermediate/segmentation/patients.csv", dtype=str)["person"]
    assert persons.tolist() == ["BraTS20_Training_00"] * 2 + [f"BraTS20_Training_00{k}" for k in (3, 4, 5)]


def test_order_of_files_changes_nothing(project, sample, tmp_path):
    """The same slices in other folders, so found in another order: same patients, same sets, same rows."""
    source = tmp_path / "shuffled"
    files = sorted(sample.rglob("*.h5"))
    for file, number in zip(files, np.random.default_rng(3).permutation(len(files)), strict=True):
        (source / f"{number:02d}").mkdir(parents=True)
        shutil.copy(file, source / f"{number:02d}" / file.name)
    for table in sample.rglob("*.csv"):
        shutil.copy(table, source)
    written = []
    for folder in (sample, source):
        run(project, "data_engineering", segmentation_source=str(folder))
        store = Store(project / "data/03_primary/segmentation/slices.h5")
        written.append(
            (
                pd.read_csv(project / "data/05_model_input/segmentation/splits.csv"),
                store.rows,
                store.read(np.arange(25), "image")[0],
            )
        )
    (splits, rows, image), (other_splits, other_rows, other_image) = written
    assert splits.equals(other_splits)
    assert rows.equals(other_rows)
    assert np.array_equal(image, other_image)


def test_patients_carry_grade_and_survival(project, sample):
    run(project, "data_engineering", segmentation_source=str(sample))
    patients = pd.read_csv(project / "data/02_intermediate/segmentation/patients.csv", keep_default_na=False)
    assert set(patients["grade"]) <= {"HGG", "LGG"}
    assert (patients["survival_days"] != "").equals(patients["grade"] == "HGG")
    assert patients["tumour_ml"].tolist() == pytest.approx(
        (patients["NCR_ml"] + patients["ED_ml"] + patients["ET_ml"]).tolist(), abs=2e-3
    )


def test_data_report_says_what_was_left_out(project, sample, tmp_path):
    source = shutil.copytree(sample, tmp_path / "source")
    next(source.rglob("volume_2_slice_74.h5")).write_text("not HDF5")
    next(source.rglob("volume_3_slice_74.h5")).unlink()
    run(project, "data_engineering", segmentation_source=str(source))
    report = (project / "data/08_reporting/segmentation/data_report.html").read_text()
    assert "23 slices of 5 patients are in use; 1 are excluded;" in report
    assert "names 25 slices, of which 1 are not in this copy" in report
    assert "is text, not HDF5; fetch it again or remove it" in report
    sheet = (project / "data/08_reporting/segmentation/data_sheet.md").read_text()
    assert "names 25 slices, of which 1 are not in this copy" in sheet
    assert "is text, not HDF5; fetch it again or remove it" in sheet
    assert report.count("data:image/png") == 3
    assert report.count("data:image/webp") == 2
    assert "SIMULATED" in report.split("</title>")[0]


def test_a_patient_in_two_sets_stops_the_run(project, sample):
    run(project, "data_engineering", segmentation_source=str(sample))
    file = project / "data/05_model_input/segmentation/splits.csv"
    splits = pd.read_csv(file)
    pd.concat([splits, splits.tail(1).assign(split="train" if splits["split"].iloc[-1] != "train" else "test")]).to_csv(
        file, index=False
    )
    with pytest.raises(Exception, match="patient: field_uniqueness"):
        run(project, "segmentation", node_names=["segmentation.classic_unet.train_network"])


def test_a_damaged_copy_gives_way_to_the_next_and_notes_follow_the_files(tmp_path, brats, rng):
    source, workers = tmp_path / "scans", WorkerSettings(workers=1)
    volumes, mask = np.zeros((4, 40, 36, 6)), np.zeros((40, 36, 6))
    volumes[:, 5:35, 5:30] = rng.normal(300, 40, (4, 30, 25, 6))
    mask[15:22, 10:18, 1:3] = 2
    for place in ("a", "b"):
        save_patient(source / place, "P1", volumes, mask)
    damaged = source / "a" / "P1_t1.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:100])
    memory = joblib.Memory(tmp_path / "memory", verbose=0)
    for _ in range(2):  # the second time from memory
        index = index_slices(source, memory, brats, workers)
        assert set(index.loc[index["excluded"] == "", "file"]) == {"b"}
        assert "P1_t1.nii.gz can't be read" in index.loc[index["file"] == "a", "excluded"].item()
    content = prepare_slices(index, source, brats, PreparationSettings(slice_size=32), workers)
    assert [len(chunk["slice"]) for chunk in content.chunks] == [6]
    shutil.rmtree(source / "a")
    (source / "b" / "P1_seg.nii.gz").rename(source / "b" / "x_seg.nii.gz")
    assert index_slices(source, memory, brats, workers)["note"].iloc[0].startswith("x_seg.nii.gz is taken for the mask")
    (source / "b" / "P1_t1.nii").write_bytes(b"")
    (note,) = set(index_slices(source, memory, brats, workers)["note"])
    assert "P1_t1.nii.gz is used, the unpacked file of the same name beside it is not" in note
