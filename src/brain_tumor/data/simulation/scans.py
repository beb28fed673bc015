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

BRATS_VALUES = np.array([0, 1, 2, 4], np.uint8)
"""Values of background, NCR, ED and ET in BraTS's NIfTI files, which skip 3."""


def simulate_data_set(
    folder: Path,
    *,
    patients: int,
    slices: range,
    seed: int,
    workers: int = -1,
) -> None:
    """Write simulated patients below `folder`, as the Kaggle set `awsaf49/brats2020-training-data` lays them out.

    Args:
        slices: the slice numbers written of each patient, on BraTS's grid of 155.
        workers: processes; -1 is one for each core.
    """
    content = folder / CONTENT
    content.mkdir(parents=True)
    tasks = [(content, volume, tuple(slices), seed) for volume in range(1, patients + 1)]
    facts = list(parallel_map(_write_patient, tasks, WorkerSettings(workers=workers), "simulating patients"))
    # The published table has paths of the machine that it was made on.
    meta = []
    for fact in facts:
        for number, target in zip(slices, fact["targets"], strict=True):
            path = f"/content/data/volume_{fact['volume']}_slice_{number}.h5"
            meta.append({"slice_path": path, "target": target, "volume": fact["volume"], "slice": number})
    pd.DataFrame(meta).to_csv(content / "meta_data.csv", index=False)
    _write_tables(content, facts)
    _mark_simulated(folder, patients, seed)


def simulate_masks(
    folder: Path,
    *,
    patients: int,
    slices: range,
    seed: int,
    workers: int = -1,
) -> None:
    """Write masks of simulated patients as NIfTI files, and the tables of the patients, below `folder`.

    Args:
        slices: the slice numbers of BraTS's grid; a mask's slices are as thick as they are apart.
    """
    folder.mkdir(parents=True)
    tasks = [(folder, number, tuple(slices), slices.step, seed) for number in range(1, patients + 1)]
    written = parallel_map(_write_mask, tasks, WorkerSettings(workers=workers), "simulating masks", unit="mask")
    _write_tables(folder, list(written))
    _mark_simulated(folder, patients, seed)


def _write_mask(
    folder: Path,
    volume: int,
    slices: tuple[int, ...],
    thickness: int,
    seed: int,
) -> dict:
    rng = np.random.default_rng([seed, volume])
    grade, age, labels = simulate_mask(slices, rng)
    shifted = np.roll(labels, TO_BRATS, (1, 2))
    upright = np.moveaxis(shifted, 0, -1)
    values = BRATS_VALUES[upright]
    # Files of BraTS run to the left, the back and the head; NIfTI's axes to the right, the front and the head.
    affine = np.diag([-1.0, -1.0, thickness, 1.0])
    # The origin of BraTS, in millimetres, and the height of the first slice.
    affine[:3, 3] = 0, 239, slices[0]
    image = nib.Nifti1Image(values, affine)
    nib.nifti1.save(image, folder / f"{_name(volume)}_seg.nii.gz")
    facts = _clinical_facts(grade, age, labels, thickness, rng)
    return {"volume": volume} | facts


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
        file = content / f"volume_{volume}_slice_{number}.h5"
        write_slice(file, image, labels, len(TISSUES))
        targets.append(int(labels.any()))
    # A single slice has no distance to the next; it counts as 1 mm, the distance on the grid.
    thickness = np.diff(slices).mean() if len(slices) > 1 else 1.0
    facts = _clinical_facts(phantom.grade, phantom.age, phantom.labels, thickness, rng)
    return {"volume": volume, "targets": targets} | facts


def _clinical_facts(
    grade: str,
    age: float,
    labels: np.ndarray,
    thickness: float,
    rng: np.random.Generator,
) -> dict:
    """Age, resection and survival of a simulated patient.

    Survival shortens with age, and twice as much with the volume of the core. A tenth are alive (censored); 3 % of the
    ages are unknown.
    """
    # NCR and ET are the core; pixels are 1 mm wide, and 1000 cubic millimetres are a millilitre.
    core = (labels == 1) | (labels == 3)
    core_ml = float(core.sum() * thickness / 1000)
    from_age = -0.025 * (age - 60)
    from_core = 0.8 * np.log((core_ml + 1) / 20)
    days = 500 * np.exp(from_age - from_core + rng.normal(0, 0.5))
    resection = rng.choice(["GTR", "NA", "STR"], p=[0.5, 0.45, 0.05])
    days = max(5, round(days))
    alive, age_unknown = rng.random(2) < (0.1, 0.03)
    survival = str(days)
    if alive:
        # Censored: their last visit is some day before the death that was drawn.
        followed = max(5, round(days * rng.random()))
        survival = f"ALIVE ({followed} days later)"
    known_age = "NA" if age_unknown else round(age, 3)
    return {"grade": grade, "age": known_age, "days": survival, "resection": resection}


def _write_tables(folder: Path, facts: list[dict]) -> None:
    """Write `name_mapping.csv` and `survival_info.csv` as published; only HGG have a survival."""
    names = [_name(fact["volume"]) for fact in facts]
    mapping = pd.DataFrame({"Grade": [fact["grade"] for fact in facts]})
    # Names in the sets of other years, which simulated patients lack.
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
    high_grade = survival[mapping["Grade"] == "HGG"]
    high_grade.to_csv(folder / "survival_info.csv", index=False, na_rep="NA")
