"""Which DICOM series is FLAIR, T1, T1 with contrast or T2, and why, by header; one for each modality."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from brain_tumor.data.common.pseudonyms import is_pseudonym
from brain_tumor.data.raw_scans.dicom import HIDDEN, Series, hide_names

SHORTEST_SPAN = 80.0
"""Millimetres that slices span, at least: a brain has 120 and more, a localiser a few slices."""

PASSED_OVER = {
    "a localiser": r"locali[sz]er|\bloc\b|scout|survey|\b3.?plane",
    "diffusion": r"diffusion|\bdwi|\bdti|\badc\b|tracew|\btrace\b|\bfa\b|hardi|noddi",
    "perfusion or function": r"perf|\bdsc\b|\bdce\b|\basl\b|\bcb[fv]\b|bold|fmri|ep2d|mosaic",
    "susceptibility or angiography": r"\bt2 ?\*|t2.?star|\bswi|swan|\btof|\bmra\b|\bmrv\b|angio|phase",
    "derived": r"derived|secondary|projection image|\bmip\b|subtract|screen",
}
"""Why a series is passed over > pattern of its description and image type."""

OTHER_PARTS = (
    r"SPINE|ABDOMEN|CHEST|BREAST|THORAX|PELVIS|PROSTATE|UTERUS|KIDNEY|LIVER|HEART|SHOULDER|THIGH|EXTREMITY|"
    r"\b(?:ELBOW|WRIST|HAND|HIP|KNEE|ANKLE|FOOT|LEG|ARM)\b"
)
"""Pattern of parts of the body that aren't the head. Headers of heads read HEAD, BRAIN, SKULL, HEADNECK, or nothing."""

FLAIR_WORDS = r"flair|dark.?fluid|\btirm\b"
T1_WORDS = r"(?<![a-z0-9])t1|mp.?rage|\bf?spgr|bravo|\bvibe\b"
T2_WORDS = r"(?<![a-z0-9])t2"
CONTRAST_WORDS = r"post|gado|\bgad\b|\bgd\b|\bkm\b|contrast|t1 ?ce\b|t1 ?c\b|\bce\b|\+ ?[ck]\b|\b[ck]\+|\+ ?gd|enhanced"
NATIVE_WORDS = r"\bpre|without|\bw/?o\b|nativ|non.?contrast|unenhanced|- ?c\b"


@dataclass(frozen=True)
class Choice:
    """A series with what it is taken for.

    Attributes:
        modality: name of the modality that it may be; empty if it is none.
        why: what that was told from.
        taken: whether it is the one that is used.
    """

    series: Series
    modality: str
    why: str
    taken: bool = False


@dataclass
class Study:
    """The series of one patient's visit.

    Attributes:
        patient: a name without what names a person.
        folder: below the source, the same.
        problem: why the patient can't be used; empty if nothing speaks against it.
        notes: what is unusual.
        missing: modalities of which there is no series.
    """

    patient: str
    folder: str
    choices: list[Choice]
    problem: str = ""
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def listed(self) -> str:
        """Numbers of the series, and what each may be."""
        return ", ".join(f"{choice.series.number} {choice.modality or '-'}" for choice in self.choices)

    @property
    def explained(self) -> str:
        """That modalities are missing, with what was found instead; empty if none is."""
        return f"no {' and no '.join(self.missing)} among its series ({self.listed})" if self.missing else ""


def group_studies(series: Sequence[Series], source: Path) -> list[Study]:
    """The studies among the series. Two in one folder are told apart by their headers, which is noted."""
    groups: dict[tuple[str, str], list[Series]] = defaultdict(list)
    for each in series:
        groups[each.person, each.study].append(each)
    named: dict[str, list[list[Series]]] = defaultdict(list)
    for own in groups.values():
        named[_name(own, source)].append(own)
    studies = []
    for name, several in named.items():
        for number, own in enumerate(several, start=1):
            patient = name if len(several) == 1 else f"{name}_{number}"
            choices = [Choice(each, *judge(each)) for each in own]
            study = Study(patient, _folder(own, source), choices)
            if len(several) > 1:
                note = "series of %d patients or studies lie in one folder; they are told apart by their headers"
                study.notes.append(note % len(several))
            studies.append(study)
    return sorted(studies, key=lambda study: study.patient)


def _name(own: list[Series], source: Path) -> str:
    """The folder below the source, unless it names a person: then a digest of the study."""
    parts = own[0].files[0].parent.relative_to(source).parts
    name = parts[0] if parts else source.name
    names = frozenset().union(*(each.names for each in own))
    if not _names_somebody(name, names):
        return re.sub(r"[^\w.-]+", "_", name)
    import hashlib

    digest = hashlib.blake2b(own[0].study.encode(), digest_size=4).hexdigest()
    return f"patient_{digest}"


def _folder(own: list[Series], source: Path) -> str:
    names = frozenset().union(*(each.names for each in own))
    parts = own[0].files[0].parent.relative_to(source).parts
    return "/".join(HIDDEN if _names_somebody(part, names) else part for part in parts)


def _names_somebody(folder: str, names: frozenset[str]) -> bool:
    # A pseudonym has letters at random, which may make a short name.
    return not is_pseudonym(folder) and HIDDEN in hide_names(folder, names)


def judge(series: Series) -> tuple[str, str]:
    """The modality of a series and why; "" and why not if it is none."""
    if series.modality != "MR":
        return "", f"passed over: {series.modality}, not MR"
    if series.persons > 1:
        return "", f"passed over: its files are of {series.persons} patients; export it again"
    other = re.search(OTHER_PARTS, series.body_part)
    if other and not re.search("HEAD|BRAIN|SKULL", series.body_part):
        remedy = "if it is the head, name it under `data_raw_scans.series`"
        return "", f"passed over: its header reads {other[0].lower()}, not the head; {remedy}"
    if series.orientations > 1:
        return "", "passed over: a localiser: its slices have several orientations"
    text = f"{series.description} {' '.join(series.image_type)}".lower().replace("_", " ")
    for reason, pattern in PASSED_OVER.items():
        if re.search(pattern, text) or (reason == "diffusion" and series.diffusion):
            return "", f"passed over: {reason}"
    if series.span < SHORTEST_SPAN:
        return "", f"passed over: its slices span {series.span:.0f} mm, a brain has more than {SHORTEST_SPAN:.0f}"
    kind, why = _tell(series)
    if kind == "T1":
        contrast, told = _tell_contrast(series)
        return ("T1ce" if contrast else "T1"), f"{why}; {told}"
    return kind, why


def _tell(series: Series) -> tuple[str, str]:
    by_times, by_words = tell_by_times(series), tell_by_words(series.description)
    times = ", ".join(
        f"{name} {value:.0f} ms"
        for name, value in (("TR", series.repetition), ("TE", series.echo), ("TI", series.inversion))
        if value is not None
    )
    # Without an inversion time FLAIR has the times of T2.
    if by_words == "FLAIR" and by_times == "T2" and series.inversion is None:
        by_times = ""
    if by_times and by_words and by_times != by_words:
        return by_times, f"{times}, although its description reads {by_words}"
    if by_times:
        return by_times, times
    if by_words:
        return by_words, "its description"
    return "", f"passed over: neither description nor times ({times or 'none'}) are those of a modality"


def tell_by_times(series: Series) -> str:
    """FLAIR, T1 or T2 by the times of the sequence; "" if they are those of none."""
    repetition, echo, inversion = series.repetition, series.echo, series.inversion
    if echo is None or repetition is None:
        return ""
    if inversion:
        if inversion >= 1200 and echo >= 60:
            return "FLAIR"
        return "T1" if echo < 40 else ""
    if echo >= 60 and repetition >= 1500:
        return "T2"
    return "T1" if echo < 40 and repetition < 1500 else ""


def tell_by_words(description: str) -> str:
    """FLAIR, T1 or T2 by the words of a description; "" if it has none."""
    text = description.lower().replace("_", " ")
    has_t1 = bool(re.search(T1_WORDS, text))
    if re.search(FLAIR_WORDS, text):
        return "T1" if has_t1 else "FLAIR"
    if has_t1:
        return "T1"
    return "T2" if re.search(T2_WORDS, text) else ""


def _tell_contrast(series: Series) -> tuple[bool, str]:
    text = series.description.lower().replace("_", " ")
    if re.search(NATIVE_WORDS, text):
        return False, "its description reads without contrast"
    if series.agent:
        return True, "a contrast agent is given"
    if re.search(CONTRAST_WORDS, text):
        return True, "its description reads with contrast"
    return False, "no contrast agent is given"


def choose(study: Study, modalities: Sequence[str], overruled: Mapping[str, int]) -> Study:
    """The study with one series taken for each modality that there is.

    Args:
        overruled: modality > number of the series to take, from the settings.
    """
    choices = list(study.choices)
    problems, notes, missing = [], list(study.notes), []
    for modality in modalities:
        number = overruled.get(modality)
        if number is None:
            places = [k for k, choice in enumerate(choices) if choice.modality == modality]
            why = ""
        else:
            places = [k for k, choice in enumerate(choices) if choice.series.number == number]
            why = f"named under `data_raw_scans.series`: {modality}"
        if not places:
            if number is None:
                missing.append(modality)
            else:
                named = f"which `data_raw_scans.series` names for {modality}"
                problems.append(f"no series {number}, {named}; there are {study.listed}")
            continue
        best = max(places, key=lambda k: _prefer(choices[k].series))
        taken = choices[best]
        choices[best] = replace(taken, modality=modality, why=why or taken.why, taken=True)
        others = [choices[k].series.number for k in places if k != best]
        if others:
            listed = ", ".join(map(str, others))
            notes.append(
                f"several series are {modality}: {taken.series.number} is taken, {listed} "
                f"{'is' if len(others) == 1 else 'are'} not (coarser or earlier); to take another, name it under "
                "`data_raw_scans.series`"
            )
    return Study(study.patient, study.folder, choices, "; ".join(problems), notes, missing)


def _prefer(series: Series) -> tuple[float, int]:
    """The finer first, of equal ones the later: an acquisition is repeated where the first one failed."""
    row, column, step = series.spacing
    return -round(row * column * step, 2), series.number


def tabulate(study: Study) -> list[dict[str, Any]]:
    """A row for each series."""
    rows = []
    for choice in study.choices:
        series = choice.series
        rows.append(
            {
                "patient": study.patient,
                "folder": study.folder,
                "series": str(series.number),
                "description": series.description,
                "modality": choice.modality,
                "taken": choice.taken,
                "why": choice.why,
                "files": len(series.files),
                "spacing_mm": " x ".join(f"{step:.3g}" for step in series.spacing),
            }
        )
    return rows
