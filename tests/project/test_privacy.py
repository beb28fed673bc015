import logging
import subprocess
import tarfile

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml
from dicom_files import write_series
from support import ROOT, run, save_patient

from brain_tumor.data.common.pseudonyms import Pseudonyms
from brain_tumor.project.privacy import KEY

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


def test_what_would_keep_names_is_refused(project, tmp_path):
    with pytest.raises(ValueError, match=r"privacy\.pseudonymise doesn't cover survival.source and survival.tables"):
        run(project, "survival", survival_source=str(tmp_path), privacy=PRIVATE)


def test_a_wrong_value_is_refused(project):
    with pytest.raises(ValueError, match=r"privacy\.pseudonymise must be a valid boolean"):
        run(project, "segmentation", NODES[:1], privacy={"pseudonymise": "maybe"})
