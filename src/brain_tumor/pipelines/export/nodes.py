"""Nodes that hand the project's patients to other programs."""

import logging
from pathlib import Path

import pandas as pd

from brain_tumor.data.common.files import is_simulated
from brain_tumor.data.common.sets import TEST
from brain_tumor.data.scans.data_set import DataSet
from brain_tumor.data.scans.nnunet import NO_NIFTI, Case, NnunetData, find_folds
from brain_tumor.data.scans.slice_index import find_indexed

logger = logging.getLogger(__name__)


def choose_cases(index: pd.DataFrame, source: Path, splits: pd.DataFrame, data_set: DataSet) -> pd.DataFrame:
    """A row for each patient of the splits: `patient`, `person`, `split`, `fold`, and why one is `excluded`.

    Raises:
        ValueError: if no patient for training has NIfTI volumes.
    """
    scans = find_indexed(index, source, data_set)
    reasons = [NO_NIFTI if scans[patient].layout != "nifti" else "" for patient in splits["patient"]]
    cases = splits.assign(excluded=reasons)
    left_out = cases[cases["excluded"] != ""]
    if len(left_out):
        logger.warning("%d of %d patients are left out: %s", len(left_out), len(cases), NO_NIFTI)
    if (left_out["split"] != TEST).sum() == (cases["split"] != TEST).sum():
        raise ValueError(
            f"no patient of {source} who isn't for testing has NIfTI volumes, which nnU-Net takes; give the folder of "
            "NIfTI scans with `--params segmentation_source=PATH`"
        )
    return cases


def gather_cases(
    cases: pd.DataFrame,
    index: pd.DataFrame,
    source: Path,
    splits: pd.DataFrame,
    data_set: DataSet,
) -> NnunetData:
    """The patients who are written, and their folds."""
    scans = find_indexed(index, source, data_set)
    used = cases[cases["excluded"] == ""]
    chosen = [Case(scans[row.patient], row.split == TEST) for row in used.itertuples()]
    return NnunetData(data_set, tuple(chosen), find_folds(splits, used["patient"].tolist()), is_simulated(source))
