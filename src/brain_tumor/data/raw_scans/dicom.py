"""DICOM series: which files are one, and what their headers tell of the contrast. Names of persons are never kept."""

import hashlib
import logging
import re
import unicodedata
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from brain_tumor.data.common.file_kinds import identify
from brain_tumor.data.raw_scans.extra import require_extra

logger = logging.getLogger(__name__)

NAMING = (
    *("PatientName", "PatientID", "OtherPatientIDs", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName"),
    *("PatientBirthDate", "PatientAddress", "PatientTelephoneNumbers", "AccessionNumber", "StudyID"),
    *("ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "PhysiciansOfRecord"),
    *("NameOfPhysiciansReadingStudy", "RequestingPhysician", "ResponsiblePerson"),
    *("InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName"),
)
"""Elements that name a person, or who has seen them and where."""

PLACES = ("InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName", "StudyID")
"""Those of them that are looked for whole: their parts are words such as `brain`, or short numbers."""

BIRTH = "PatientBirthDate"

READ = (
    *NAMING,
    *("PatientIdentityRemoved", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription"),
    *("ProtocolName", "Modality", "ImageType", "ScanningSequence", "RepetitionTime", "EchoTime", "InversionTime"),
    *("ContrastBolusAgent", "DiffusionBValue", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
    *("SliceThickness", "SpacingBetweenSlices", "NumberOfFrames", "SharedFunctionalGroupsSequence"),
    "BodyPartExamined",
)
"""Elements that are read."""

SHORTEST_NAME = 3
"""Characters from which a part of a person's name is looked for: a shorter one is in many words."""

HIDDEN = "***"
"""In place of what names a person."""

NO_AGENT = frozenset({"", "no", "none", "n", "0", "without", "nil", "keins"})
"""Values of the contrast agent that stand for none."""


@dataclass
class Series:
    """The files of one series.

    Attributes:
        person: digest of what names the person.
        study: UID of the study.
        description: without what names a person.
        image_type: in upper case.
        body_part: that was examined, in upper case; empty where the header has none.
        repetition, echo, inversion: times in milliseconds; None where the header has none.
        spacing: millimetres, (row, column, slice); 0 where the header has none.
        span: millimetres from the first to the last slice.
        orientations: different orientations of the slices.
        persons: different persons in the files.
        names: what names the person, in lower case; to be hidden.
    """

    uid: str
    study: str
    person: str
    number: int
    description: str = ""
    modality: str = ""
    image_type: tuple[str, ...] = ()
    body_part: str = ""
    repetition: float | None = None
    echo: float | None = None
    inversion: float | None = None
    agent: bool = False
    diffusion: bool = False
    spacing: tuple[float, float, float] = (0.0, 0.0, 0.0)
    span: float = 0.0
    orientations: int = 1
    persons: int = 1
    syntax: str = ""
    files: list[Path] = field(default_factory=list)
    names: frozenset[str] = frozenset()


@contextmanager
def quiet() -> Iterator[None]:
    """Without pydicom's warnings: they quote the values of odd elements, a person's name or number among them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def find_series(files: Iterable[Path]) -> list[Series]:
    """The series among the files, in the order of study and number; a file that can't be read is excluded.

    Raises:
        ImportError: if pydicom isn't installed.
    """
    dicom_files = [file for file in files if identify(file) == "dicom"]
    if not dicom_files:
        return []
    headers: dict[str, list[tuple[Path, Any]]] = defaultdict(list)
    unreadable = 0
    # Elements are decoded when they are looked at, not when the file is read.
    with quiet():
        for file in dicom_files:
            header = _read(file)
            if header is None:
                unreadable += 1
            else:
                headers[str(header.SeriesInstanceUID)].append((file, header))
        series = [_describe(uid, own) for uid, own in headers.items()]
    if unreadable:
        # The name of such a file may be that of a person, which no header is there to compare with.
        logger.warning("excluded: %d DICOM files without a readable header of an image; export them again", unreadable)
    return sorted(series, key=lambda each: (each.study, each.number, each.uid))


def _read(file: Path) -> Any:
    """The header of an image; None if it is none."""
    pydicom = require_extra("pydicom")
    try:
        header = pydicom.dcmread(file, force=True, stop_before_pixels=True, specific_tags=list(READ))
    except Exception:  # pydicom has an error for each way in which a file can be damaged
        return None
    return header if "SeriesInstanceUID" in header and "Modality" in header else None


def _describe(uid: str, own: list[tuple[Path, Any]]) -> Series:
    header = own[0][1]
    places = _places([each for _, each in own])
    names = frozenset().union(*(_names(each) for _, each in own))
    words = f"{header.get('SeriesDescription') or ''} {header.get('ProtocolName') or ''}".strip()
    meta = getattr(header, "file_meta", None)
    syntax = meta.TransferSyntaxUID.name if meta is not None and "TransferSyntaxUID" in meta else ""
    return Series(
        uid=uid,
        study=str(header.get("StudyInstanceUID", "")),
        person=_digest_person(header),
        number=int(header.get("SeriesNumber") or 0),
        description=hide_names(words, names),
        modality=str(header.Modality),
        image_type=tuple(str(each).upper() for each in _list(header.get("ImageType"))),
        body_part=str(header.get("BodyPartExamined") or "").strip().upper(),
        repetition=_time(header, "RepetitionTime"),
        echo=_time(header, "EchoTime"),
        inversion=_time(header, "InversionTime"),
        agent=str(header.get("ContrastBolusAgent") or "").strip().lower() not in NO_AGENT,
        diffusion=bool(header.get("DiffusionBValue")),
        spacing=_spacing(header, places),
        span=_span(header, places),
        orientations=len({tuple(np.round(_list(each.get("ImageOrientationPatient")), 2)) for _, each in own}),
        persons=len({_digest_person(each) for _, each in own}),
        syntax=syntax,
        files=sorted(file for file, _ in own),
        names=names,
    )


def _list(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    # A name of pydicom can be gone through by its letters, which is not meant.
    several = isinstance(value, Sequence) and not isinstance(value, str)
    return list(value) if several else [value]


def _names(header: Any) -> set[str]:
    """What names the person; of a file whose identity was removed it is nothing."""
    if str(header.get("PatientIdentityRemoved", "")).upper() == "YES":
        return set()
    found = set()
    for element in NAMING:
        for value in _list(header.get(element)):
            whole = str(value).strip().lower()
            if element == BIRTH:
                found |= _dates(whole)
            parts = re.split(r"[\^=, ]+", whole)
            # A short name, such as Li^Bo, is found as a whole, in either order.
            found |= {whole, " ".join(reversed(parts))} | (set() if element in PLACES else set(parts))
    spelled = found | {_plain(name) for name in found} | {_plain(name.translate(GERMAN)) for name in found}
    return {name for name in spelled if len(re.sub(r"[\W_]", "", name)) >= SHORTEST_NAME}


GERMAN = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"})
"""As names of files and folders often have them."""


def _plain(text: str) -> str:
    """Letters without accents."""
    return "".join(each for each in unicodedata.normalize("NFKD", text) if not unicodedata.combining(each))


def _dates(date: str) -> set[str]:
    """A date of DICOM, such as 19700131, in the ways in which it is written."""
    if not re.fullmatch(r"\d{8}", date):
        return set()
    year, month, day = date[:4], date[4:6], date[6:]
    return {f"{year} {month} {day}", f"{day} {month} {year}", f"{month} {day} {year}", f"{day} {month} {year[2:]}"}


def _digest_person(header: Any) -> str:
    values = [str(header.get(element, "")) for element in ("PatientID", "PatientName", "PatientBirthDate")]
    return hashlib.blake2b("|".join(values).encode(), digest_size=8).hexdigest()


def hide_names(text: str, names: Iterable[str]) -> str:
    """A text without what names a person, whatever stands between the parts of a name."""
    # macOS writes an accent as a character of its own.
    text = unicodedata.normalize("NFC", text)
    for name in sorted(names, key=len, reverse=True):
        pattern = r"[\W_]*".join(map(re.escape, re.findall(r"[^\W_]+", name)))
        if pattern:
            text = re.sub(pattern, HIDDEN, text, flags=re.IGNORECASE)
    return text


SHARED_TIMES = {
    "RepetitionTime": ("MRTimingAndRelatedParametersSequence", "RepetitionTime"),
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "InversionTime": ("MRModifierSequence", "InversionTimes"),
}
"""Where an enhanced multi-frame object has its times."""


def _time(header: Any, element: str) -> float | None:
    values = _list(_get(header, element, *SHARED_TIMES[element]))
    try:
        return float(values[0]) if values else None
    except (TypeError, ValueError):
        return None


def _get(header: Any, element: str, sequence: str, inside: str) -> Any:
    """An element, or that of the functional groups that all frames share."""
    value = header.get(element)
    if value not in (None, ""):
        return value
    groups = header.get("SharedFunctionalGroupsSequence")
    items = groups[0].get(sequence) if groups else None
    return items[0].get(inside) if items else None


def _places(headers: list[Any]) -> np.ndarray:
    """Where slices lie along their normal, in millimetres, in order."""
    places = []
    for header in headers:
        axes, origin = _list(header.get("ImageOrientationPatient")), _list(header.get("ImagePositionPatient"))
        if len(axes) == 6 and len(origin) == 3:
            normal = np.cross(np.array(axes[:3], float), np.array(axes[3:], float))
            places.append(float(normal @ np.array(origin, float)))
    return np.unique(np.round(places, 2))


def _spacing(header: Any, places: np.ndarray) -> tuple[float, float, float]:
    pixels = _list(_get(header, "PixelSpacing", "PixelMeasuresSequence", "PixelSpacing"))
    row, column = (float(pixels[0]), float(pixels[1])) if len(pixels) == 2 else (0.0, 0.0)
    if len(places) > 1:
        return row, column, float(np.median(np.diff(places)))
    for element in ("SpacingBetweenSlices", "SliceThickness"):
        values = _list(_get(header, element, "PixelMeasuresSequence", element))
        if values:
            return row, column, float(values[0])
    return row, column, 0.0


def _span(header: Any, places: np.ndarray) -> float:
    step = _spacing(header, places)[2]
    frames = int(header.get("NumberOfFrames") or 1)
    if frames > 1:
        return frames * step
    return float(places[-1] - places[0]) + step if len(places) else 0.0
