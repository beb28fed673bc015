"""The node that writes masks as DICOM-SEG objects, for viewers and archives of a hospital."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from brain_tumor import __version__
from brain_tumor.data.common.files import SIMULATED_MARK
from brain_tumor.data.common.parallel import track
from brain_tumor.data.common.pseudonyms import PrivacySettings
from brain_tumor.data.common.tables import with_text
from brain_tumor.data.raw_scans.dicom_seg import EXTRA, SUFFIX, Algorithm, SegFile, make_dicom_seg
from brain_tumor.data.raw_scans.extra import require_extra
from brain_tumor.data.raw_scans.find_patients import find_dicom
from brain_tumor.data.raw_scans.settings import RawSettings
from brain_tumor.data.scans.data_set import DataSet
from brain_tumor.data.scans.nifti_masks import name_mask, read_mask
from brain_tumor.figures.palette import colour_targets, name_network
from brain_tumor.networks.model_folders import ModelFolder
from brain_tumor.networks.trained import TrainedNetwork

logger = logging.getLogger(__name__)


def write_dicom_seg(
    masks: Path,
    series: pd.DataFrame,
    native: Path,
    source: Path,
    network: TrainedNetwork | ModelFolder,
    data_set: DataSet,
    settings: RawSettings,
    privacy: PrivacySettings,
) -> Iterator[SegFile]:
    """The mask of each patient whose scan came as DICOM, on the instances of the series of `mask_on`.

    Filed under the person whom the source names, or under the pseudonym.

    Args:
        masks: on the grid of that series.
        native: volumes as scanned; marked where they are simulated.
    """
    series = with_text(series, "series")
    # A NIfTI volume has no number.
    patients = series.loc[series["series"] != "", "patient"].unique().tolist()
    files = {patient: masks / name_mask(patient, data_set) for patient in patients}
    files = {patient: file for patient, file in files.items() if file.is_file()}
    if not settings.dicom_seg or not files:
        return iter(())
    try:
        require_extra("highdicom", EXTRA, "DICOM-SEG needs")
    except ImportError as error:
        # The masks are there as NIfTI: hours of work aren't thrown away for want of a library.
        logger.warning("no DICOM-SEG is written: %s; or set `data_raw_scans.dicom_seg` to false", error)
        return iter(())
    version = network.software if isinstance(network, ModelFolder) else __version__
    # DICOM has 64 characters for each (VR LO).
    algorithm = Algorithm(name_network(network.experiment)[:64], version[:64], network.digest)
    simulated = (native / SIMULATED_MARK).is_file() or network.simulated
    return _write(files, source, algorithm, data_set, settings, simulated=simulated, privacy=privacy)


def _write(
    files: dict[str, Path],
    source: Path,
    algorithm: Algorithm,
    data_set: DataSet,
    settings: RawSettings,
    *,
    simulated: bool,
    privacy: PrivacySettings,
) -> Iterator[SegFile]:
    # Read again: where the files lie isn't kept, since their names may be those of persons.
    found = find_dicom(source, data_set, settings.series)
    colours = colour_targets(data_set.tissue_names)
    for patient, file in track(files.items(), "writing DICOM-SEG"):
        labels, affine = read_mask(file, data_set.tissues_of({patient}))
        instances = found.get(patient, {}).get(settings.mask_on)
        if not instances:
            logger.warning(
                "%s: no DICOM-SEG: its series is gone since it was read; run `data_raw_scans` again", patient
            )
            continue
        try:
            yield make_dicom_seg(
                f"{patient}{SUFFIX}",
                instances,
                labels,
                affine,
                colours,
                algorithm,
                simulated=simulated,
                pseudonym=patient if privacy.pseudonymise else "",
            )
        except ValueError as error:
            logger.warning("%s: no DICOM-SEG: %s", patient, error)
