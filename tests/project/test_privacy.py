import logging
import subprocess
import sys
import tarfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml
from dicom_files import write_series
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline
from PIL import Image
from support import ROOT, run, save_masks, save_patient

from brain_tumor.data.common.pseudonyms import Pseudonyms
from brain_tumor.datasets import FolderDataset
from brain_tumor.project.privacy import KEY, Privacy

DATA = ["index_slices", "prepare_slices", "describe_patients", "split_patients", "write_data_report"]
NODES = [f"data_segmentation.{name}" for name in (*DATA, "draw_data", "write_data_sheet")]
PRIVATE = {"pseudonymise": True}


def save_people(folder, names, rng):
    for name in names:
        mask, volumes = np.zeros((32, 32, 8), np.uint8), np.zeros((4, 32, 32, 8))
        volumes[:, 4:28, 4:28] = rng.uniform(50, 100, (4, 24, 24, 8))
        enhancing = 3 if name.startswith("BraTS-") else 4  # as the names have it
        mask[10:18, 10:18, 2:6] = rng.choice([1, 2, enhancing], (8, 8, 4))
        save_patient(folder / name, name, volumes.astype(np.int16), mask)
    return folder


def read_key(project):
    return yaml.safe_load((project / "conf/local/privacy_key.yml").read_text(encoding="utf-8"))


def assert_nothing_names(folder, *words):
    """No file that a run wrote has a name in its name or its content; links to scans aren't results."""
    looked_at = 0
    for file in folder.rglob("*"):
        relative = file.relative_to(folder)
        if relative.parts[0] == ".pseudonymous" or not file.is_file():
            continue
        looked_at += 1
        content = str(relative).encode() + file.read_bytes()
        if file.name.endswith(".nii.gz"):
            content = str(relative).encode() + nib.load(file).to_bytes()
        for word in words:
            assert word.encode() not in content, f"{word} in {relative}"
    assert looked_at


@pytest.fixture
def logged(caplog):
    caplog.set_level(logging.INFO)
    return caplog


def test_data_of_segmentation_name_nobody_and_visits_stay_together(project, tmp_path, rng, logged, monkeypatch):
    monkeypatch.chdir(project)
    visits = [f"BraTS-Zaphod{person}-{visit:03d}" for person in range(4) for visit in (0, 1)]
    source = save_people(tmp_path / "scans", visits, rng)
    run(project, "segmentation", NODES, segmentation_source=str(source), privacy=PRIVATE)
    assert_nothing_names(project / "data", "Zaphod")
    splits = pd.read_csv(project / "data/05_model_input/segmentation/splits.csv", dtype=str)
    assert len(splits) == 8
    assert splits["person"].nunique() == 4
    assert (splits.groupby("person")["split"].nunique() == 1).all()
    key = read_key(project)
    assert {key[visit] for visit in visits} == set(splits["patient"])
    words = [record.getMessage() for record in logged.records]
    assert not [line for line in words if "Zaphod" in line]


def test_new_scans_name_nobody_and_a_patient_keeps_the_pseudonym(project, tmp_path, rng, logged, monkeypatch):
    monkeypatch.chdir(project)
    source = save_people(tmp_path / "scans", ["Zaphod_B", "Marvin_A"], rng)
    (source / "Marvin_A" / "Marvin_A_t2.nii.gz").unlink()
    (source / "Marvin_A" / "Marvin_A_dwi.nii.gz").touch()
    given = {"inference_source": str(source), "privacy": PRIVATE}
    given["inference_network"] = str(ROOT / "weights/residual_attention_unet.safetensors")
    run(project, "inference_segmentation", **given)
    assert_nothing_names(project / "data", "Zaphod", "Marvin")
    volumes = pd.read_csv(project / "data/07_model_output/inference/volumes.csv", dtype=str)
    key = read_key(project)
    assert set(volumes["patient"]) == {key["Zaphod_B"], key["Marvin_A"]}
    assert (project / f"data/07_model_output/inference/masks/{key['Zaphod_B']}_seg.nii.gz").is_file()
    words = [record.getMessage() for record in logged.records]
    assert [line for line in words if "2 new pseudonyms" in line or "new pseudonyms; who is who" in line]
    assert not [line for line in words if "Zaphod" in line or "Marvin" in line]


def test_raw_scans_name_nobody(project, tmp_path, logged, monkeypatch):
    pytest.importorskip("dcm2niix", reason="the extra raw is not installed (dcm2niix)")
    from brain_tumor.pipelines.data_raw_scans import nodes

    # What registers and extracts brains isn't called here.
    monkeypatch.setattr(nodes, "require_extra", lambda name: name)
    monkeypatch.chdir(project)
    folder = tmp_path / "scans" / "Zaphod_B"
    write_series(folder / "1", 1, description="AX FLAIR", RepetitionTime=9000, EchoTime=120, InversionTime=2500)
    write_series(folder / "2", 2)
    write_series(folder / "3", 3, description="AX T1 post", ContrastBolusAgent="Gd")
    write_series(folder / "4", 4, description="AX T2", RepetitionTime=4000, EchoTime=100)
    run(project, "data_raw_scans", ["data_raw_scans.import_scans"], raw_source=str(folder.parent), privacy=PRIVATE)
    assert_nothing_names(project / "data", "Zaphod", "Jane", "MRN4711")
    key = read_key(project)
    series = pd.read_csv(project / "data/02_intermediate/raw_scans/series.csv", dtype=str)
    assert set(series["patient"]) == {key["Zaphod_B"]}


def test_who_turns_it_on_gets_everything_anew(project, tmp_path, rng, monkeypatch):
    monkeypatch.chdir(project)
    source = save_people(tmp_path / "scans", [f"Zaphod{k}" for k in range(3)], rng)
    for privacy in ({}, PRIVATE):
        run(project, "segmentation", NODES[:4], segmentation_source=str(source), privacy=privacy)
    splits = pd.read_csv(project / "data/05_model_input/segmentation/splits.csv", dtype=str)
    assert splits["patient"].str.startswith("anon_").all()


def test_what_has_not_changed_is_not_read_again(project, tmp_path, rng, monkeypatch):
    """Of two processes: what reads the source is compared by a text."""
    source = save_people(tmp_path / "scans", [f"Zaphod{k}" for k in range(3)], rng)
    words = ["run", "--env", "test", "--to-outputs", "segmentation.index", "--params"]
    words.append(f"segmentation_source={source},privacy.pseudonymise=true")
    said = []
    for _ in range(2):
        command = [sys.executable, "-m", "brain_tumor", *words[1:]]
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
        said.append(done.stdout + done.stderr)
    assert "data_segmentation.index_slices" in said[0]
    assert "up to date" in said[1]
    assert "> 1/" not in said[1]


def test_the_simulated_sample_needs_no_pseudonyms(project, monkeypatch):
    monkeypatch.chdir(project)
    run(project, "segmentation", NODES[:1], privacy=PRIVATE)
    assert not list((project / "conf/local").glob("privacy*"))


def test_an_archive_of_the_settings_has_no_key(project):
    names = Pseudonyms(project / KEY)
    names.replace("Zaphod")
    names.save()
    # As `kedro package` packs them.
    subprocess.run(["tar", "--exclude=local/*.yml", "-czf", "conf.tar.gz", "conf"], cwd=project, check=True)
    with tarfile.open(project / "conf.tar.gz") as archive:
        packed = archive.getnames()
    assert "conf/base/parameters.yml" in packed
    assert not [name for name in packed if "privacy" in name]


def test_survival_names_nobody_and_tables_are_about_the_same_patients(project, tmp_path, logged, monkeypatch):
    monkeypatch.chdir(project)
    masks = save_masks(tmp_path / "masks", 6)
    for file in masks.iterdir():
        if file.suffix == ".csv":
            file.write_text(file.read_text().replace("p0", "Zaphod0"))
        else:
            file.rename(file.with_name(file.name.replace("p0", "Zaphod0")))
    tables = tmp_path / "tables"
    tables.mkdir()
    for name in ("survival_info.csv", "name_mapping.csv"):
        (masks / name).rename(tables / name)
    nodes = ["survival.expert.measure_masks", "survival.expert.join_patients"]
    run(project, "survival", nodes, survival_source=str(masks), survival_tables=str(tables), privacy=PRIVATE)
    patients = pd.read_csv(project / "data/05_model_input/survival/expert/patients.csv", keep_default_na=False)
    assert len(patients) == 6
    assert (patients["excluded"] == "").all()
    assert set(patients["patient"]) == {read_key(project)[f"Zaphod0{k}"] for k in range(6)}
    assert_nothing_names(project / "data", "Zaphod")
    assert not [line for line in (record.getMessage() for record in logged.records) if "Zaphod" in line]


def test_scores_of_masks_name_nobody_however_the_files_are_named(project, tmp_path, logged, monkeypatch):
    monkeypatch.chdir(project)
    mask = np.zeros((16, 16, 4), np.uint8)
    mask[4:10, 4:10, 1:3] = 4
    names = {"reference": "{}_seg.nii.gz", "nnunet": "{}.nii.gz"}
    for folder, name in names.items():
        (tmp_path / folder).mkdir()
        for patient in ("Zaphod", "Marvin"):
            nib.save(nib.Nifti1Image(mask, np.eye(4)), tmp_path / folder / name.format(patient))
    predictions = {"nnunet": str(tmp_path / "nnunet")}
    run(project, "score", score_reference=str(tmp_path / "reference"), score_predictions=predictions, privacy=PRIVATE)
    scores = pd.read_csv(project / "data/08_reporting/score/patient_scores.csv", dtype={"patient": str})
    assert set(scores["patient"]) == {read_key(project)[name] for name in ("Zaphod", "Marvin")}
    assert (scores.loc[(scores["target"] == "WT") & (scores["metric"] == "dice"), "value"] == 1).all()
    assert_nothing_names(project / "data", "Zaphod", "Marvin")
    assert not [line for line in (record.getMessage() for record in logged.records) if "Zaphod" in line]


def test_images_name_nobody_and_patients_stay_together(project, tmp_path, rng, logged, monkeypatch):
    monkeypatch.chdir(project)
    rows = []
    for folder in ("Training", "Testing"):
        for kind in ("glioma", "meningioma", "notumor", "pituitary"):
            place = tmp_path / "images" / folder / kind
            place.mkdir(parents=True)
            for number in range(2):
                name = f"Zaphod.{kind}{folder}{number}.png"
                Image.fromarray(rng.integers(0, 255, (64, 64), dtype=np.uint8)).save(place / name)
                rows.append((f"{folder}/{kind}/{name}", f"Zaphod_{kind}"))
    pd.DataFrame(rows, columns=["file", "patient"]).to_csv(tmp_path / "images/patients.csv", index=False)
    nodes = ["data_classification.index_images"]
    source = str(tmp_path / "images")
    run(project, "classification", nodes, classification_source=source, privacy=PRIVATE)
    index = pd.read_csv(project / "data/02_intermediate/classification/index.csv", keep_default_na=False)
    key = read_key(project)
    assert len(index) == 16
    assert (index["excluded"] == "").all()
    assert set(index["patient"]) == {key[f"Zaphod_{kind}"] for kind in ("glioma", "meningioma", "notumor", "pituitary")}
    assert index["file"].str.fullmatch(r"(Training|Testing)/\w+/anon_[0-9a-f]{12}\.png").all()
    assert_nothing_names(project / "data", "Zaphod")
    assert not [line for line in (record.getMessage() for record in logged.records) if "Zaphod" in line]


def test_one_new_image_names_nobody(project, tmp_path, rng, monkeypatch):
    monkeypatch.chdir(project)
    file = tmp_path / "b.Zaphod"
    Image.fromarray(rng.integers(0, 255, (64, 64), dtype=np.uint8)).save(file, format="png")
    given = {"inference_source": str(file), "inference_network": str(ROOT / "weights/cnn.safetensors")}
    nodes = ["inference_classification.index_images"]
    (index,) = run(project, "inference_classification", nodes, privacy=PRIVATE, **given).values()
    index = index.load() if hasattr(index, "load") else index
    assert index["file"].tolist() == [read_key(project)["b.Zaphod"]]


def test_a_source_that_is_not_covered_is_refused(tmp_path):
    hook, catalog = Privacy(), DataCatalog({"ours.source": FolderDataset(filepath=str(tmp_path))})
    hook.folder = tmp_path
    images = {"data_set": {"name": "images", "classes": ["a", "b"]}, "patients": {}}
    values = yaml.safe_load((ROOT / "conf/base/parameters_data_segmentation.yml").read_text(encoding="utf-8"))
    values |= {"data_classification": images, "privacy": PRIVATE}
    hook.after_catalog_created(catalog, {"parameters": values})
    pipeline = Pipeline([Node(Path, "ours.source", "out", name="read")])
    with pytest.raises(ValueError, match=r"privacy\.pseudonymise doesn't cover ours\.source"):
        hook.before_pipeline_run(pipeline, catalog)


def test_a_wrong_value_is_refused(project):
    with pytest.raises(ValueError, match=r"privacy\.pseudonymise must be a valid boolean"):
        run(project, "segmentation", NODES[:1], privacy={"pseudonymise": "maybe"})
