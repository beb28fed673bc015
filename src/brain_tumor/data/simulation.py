"""The embedded sample: simulated patients in the files and tables of the published BraTS 2020 set."""

from pathlib import Path

import numpy as np
import pandas as pd

from brain_tumor.data.hdf5_slices import write_slice
from brain_tumor.data.parallel import WorkerSettings, for_each
from brain_tumor.data.phantoms import TISSUES, Phantom, simulate_patient
from brain_tumor.data.scans import SIMULATED_MARK

CONTENT = Path("BraTS2020_training_data/content/data")


def simulate_data_set(folder: Path, *, patients: int, slices: range, seed: int, workers: int = -1) -> None:
    """Write simulated patients below `folder`, as the Kaggle set `awsaf49/brats2020-training-data` lays them out.

    Args:
        slices: the slice numbers written of each patient, on BraTS's grid of 155.
        workers: processes; -1 is one for each core.
    """
    content = folder / CONTENT
    content.mkdir(parents=True)
    tasks = [(content, volume, tuple(slices), seed) for volume in range(1, patients + 1)]
    facts = list(for_each(_write_patient, tasks, WorkerSettings(workers=workers), "simulating"))
    for name, table in _tables(facts).items():
        table.to_csv(content / name, index=False, na_rep="NA")
    text = f"{patients} patients SIMULATED by brain-tumor-mri (seed {seed}): phantoms, no scans of people. For trying and testing the project only.\n"
    (folder / SIMULATED_MARK).write_text(text)


def _write_patient(content: Path, volume: int, slices: tuple[int, ...], seed: int) -> dict:
    rng = np.random.default_rng([seed, volume])
    phantom = simulate_patient(slices, rng)
    targets = []
    for number, image, labels in zip(slices, phantom.image, phantom.labels, strict=True):
        write_slice(content / f"volume_{volume}_slice_{number}.h5", image, labels, len(TISSUES))
        targets.append(int(labels.any()))
    return {"volume": volume, "slices": slices, "targets": targets} | _clinical_facts(phantom, rng)


def _clinical_facts(phantom: Phantom, rng: np.random.Generator) -> dict:
    """Age, grade, and a survival that shortens with age and with the size of the tumour core."""
    thickness = np.diff(phantom.slices).mean() if len(phantom.slices) > 1 else 1.0
    core_ml = float(((phantom.labels == 1) | (phantom.labels == 3)).sum() * thickness / 1000)
    days = 500 * np.exp(-0.025 * (phantom.age - 60) - 0.008 * (core_ml - 30) + rng.normal(0, 0.6))
    resection = rng.choice(["GTR", "NA", "STR"], p=[0.5, 0.45, 0.05])
    return {"grade": phantom.grade, "age": round(phantom.age, 3), "days": max(5, round(days)), "resection": resection}


def _tables(facts: list[dict]) -> dict[str, pd.DataFrame]:
    """`meta_data.csv`, `name_mapping.csv` and `survival_info.csv` in the published columns."""
    names = [f"BraTS20_Training_{fact['volume']:03d}" for fact in facts]
    meta = [
        {"slice_path": f"/content/data/volume_{fact['volume']}_slice_{number}.h5", "target": target, "volume": fact["volume"], "slice": number}
        for fact in facts
        for number, target in zip(fact["slices"], fact["targets"], strict=True)
    ]
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
    )[mapping["Grade"] == "HGG"]
    return {"meta_data.csv": pd.DataFrame(meta), "name_mapping.csv": mapping, "survival_info.csv": survival}
