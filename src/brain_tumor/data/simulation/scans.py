"""Simulated patients in the files and tables of BraTS 2020 as published."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from brain_tumor.data.common.files import SIMULATED_MARK
from brain_tumor.data.common.parallel import WorkerSettings, parallel_map
from brain_tumor.data.scans.hdf5_slices import write_slice
from brain_tumor.data.simulation.phantoms import TISSUES, simulate_mask, simulate_patient

CONTENT = Path("BraTS2020_training_data/content/data")

TO_BRATS = (-1, 15)
"""Shift in rows and columns from the middle of the grid, where phantoms lie, to the position of BraTS."""


def simulate_data_set(folder: Path, *, patients: int, slices: range, seed: int, workers: int = -1) -> None:
    """Write simulated patients below `folder`, as the Kaggle set `awsaf49/brats2020-training-data` lays them out.

    Args:
        slices: the slice numbers written of each patient, on BraTS's grid of 155.
        workers: processes; -1 is one for each core.
    """
    content = folder / CONTENT
    content.mkdir(parents=True)
    tasks = [(content, volume, tuple(slices), seed) for volume in range(1, patients + 1)]
    facts = list(parallel_map(_write_patient, tasks, WorkerSettings(workers=workers), "simulating patients"))
    meta = []
    for fact in facts:
        for number, target in zip(slices, fact["targets"], strict=True):
            path = f"/content/data/volume_{fact['volume']}_slice_{number}.h5"
            meta.append({"slice_path": path, "target": target, "volume": fact["volume"], "slice": number})
    pd.DataFrame(meta).to_csv(content / "meta_data.csv", index=False)
    _write_tables(content, facts)
    _mark_simulated(folder, patients, seed)


def simulate_masks(folder: Path, *, patients: int, slices: range, seed: int, workers: int = -1) -> None:
    """Write masks of simulated patients as NIfTI files, and the tables of the patients, below `folder`.

    Args:
        slices: the slice numbers of BraTS's grid; a mask's slices are as thick as they are apart.
    """
    folder.mkdir(parents=True)
    tasks = [(folder, number, tuple(slices), slices.step, seed) for number in range(1, patients + 1)]
    _write_tables(
        folder, list(parallel_map(_write_mask, tasks, WorkerSettings(workers=workers), "simulating masks", unit="mask"))
    )
    _mark_simulated(folder, patients, seed)


def _write_mask(folder: Path, volume: int, slices: tuple[int, ...], thickness: int, seed: int) -> dict:
    rng = np.random.default_rng([seed, volume])
    grade, age, labels = simulate_mask(slices, rng)
    values = np.array([0, 1, 2, 4], np.uint8)[np.moveaxis(np.roll(labels, TO_BRATS, (1, 2)), 0, -1)]
    affine = np.diag([-1.0, -1.0, thickness, 1.0])
    affine[:3, 3] = 0, 239, slices[0]
    nib.nifti1.save(nib.Nifti1Image(values, affine), folder / f"{_name(volume)}_seg.nii.gz")
    return {"volume": volume} | _clinical_facts(grade, age, labels, thickness, rng)


def _name(volume: int) -> str:
    return f"BraTS20_Training_{volume:03d}"


def _mark_simulated(folder: Path, patients: int, seed: int) -> None:
    text = (
        f"{patients} patients SIMULATED by brain-tumor-mri (seed {seed}): phantoms, no scans of people. For "
        "trying and testing the project only.\n"
    )
    (folder / SIMULATED_MARK).write_text(text, encoding="utf-8")


def _write_patient(content: Path, volume: int, slices: tuple[int, ...], seed: int) -> dict:
    rng = np.random.default_rng([seed, volume])
    phantom = simulate_patient(slices, rng)
    targets = []
    for number, image, labels in zip(slices, phantom.image, phantom.labels, strict=True):
        write_slice(content / f"volume_{volume}_slice_{number}.h5", image, labels, len(TISSUES))
        targets.append(int(labels.any()))
    thickness = np.diff(slices).mean() if len(slices) > 1 else 1.0
    return {"volume": volume, "targets": targets} | _clinical_facts(
        phantom.grade, phantom.age, phantom.labels, thickness, rng
    )


def _clinical_facts(grade: str, age: float, labels: np.ndarray, thickness: float, rng: np.random.Generator) -> dict:
    """Age, resection and survival of a simulated patient.

    Survival shortens with age, and twice as much with the volume of the core. A tenth are alive (censored); 3 % of the
    ages are unknown.
    """
    core_ml = float(((labels == 1) | (labels == 3)).sum() * thickness / 1000)
    days = 500 * np.exp(-0.025 * (age - 60) - 0.8 * np.log((core_ml + 1) / 20) + rng.normal(0, 0.5))
    resection = rng.choice(["GTR", "NA", "STR"], p=[0.5, 0.45, 0.05])
    days = max(5, round(days))
    alive, age_unknown = rng.random(2) < (0.1, 0.03)
    survival = f"ALIVE ({max(5, round(days * rng.random()))} days later)" if alive else str(days)
    return {"grade": grade, "age": "NA" if age_unknown else round(age, 3), "days": survival, "resection": resection}


def _write_tables(folder: Path, facts: list[dict]) -> None:
    """Write `name_mapping.csv` and `survival_info.csv` as published; only HGG have a survival."""
    names = [_name(fact["volume"]) for fact in facts]
    mapping = pd.DataFrame({"Grade": [fact["grade"] for fact in facts]})
    for column in ("BraTS_2017_subject_ID", "BraTS_2018_subject_ID", "TCGA_TCIA_subject_ID", "BraTS_2019_subject_ID"):
        mapping[column] = pd.NA
    mapping["BraTS_2020_subject_ID"] = names
    survival = pd.DataFrame(
        {
            "Brats20ID": names,
            "Age": [fact["age"] for fact in facts],
            "Survival_days": [fact["days"] for fact in facts],
            "Extent_of_Resection": [fact["resection"] for fact in facts],
        }
    )
    mapping.to_csv(folder / "name_mapping.csv", index=False, na_rep="NA")
    survival[mapping["Grade"] == "HGG"].to_csv(folder / "survival_info.csv", index=False, na_rep="NA")
