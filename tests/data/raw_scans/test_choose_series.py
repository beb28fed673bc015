from pathlib import Path

import pytest

from brain_tumor.data.raw_scans.choose_series import choose, group_studies, judge, tabulate
from brain_tumor.data.raw_scans.dicom import Series, hide_names

MODALITIES = ["FLAIR", "T1", "T1ce", "T2"]


def series(number, description="", **about):
    about = {"modality": "MR", "span": 150.0, "spacing": (1.0, 1.0, 5.0), "image_type": ("ORIGINAL", "PRIMARY")} | about
    files = [Path("/source") / about.pop("folder", "ward/P1") / f"{number}.dcm"]
    return Series(
        f"uid{number}", about.pop("study", "S"), about.pop("person", "p"), number, description, files=files, **about
    )


def times(repetition, echo, inversion=None):
    return {"repetition": repetition, "echo": echo, "inversion": inversion}


@pytest.mark.parametrize(
    ("given", "modality"),
    [
        (series(1, "AX FLAIR", **times(9000, 120, 2500)), "FLAIR"),
        (series(1, "", **times(9000, 120, 2500)), "FLAIR"),
        (series(1, "t2_tirm_tra_dark-fluid"), "FLAIR"),
        (series(1, "AX FLAIR", **times(9000, 120)), "FLAIR"),
        (series(1, "AX T1 FLAIR", **times(2000, 12, 800)), "T1"),
        (series(1, "", **times(500, 10)), "T1"),
        (series(1, "MPRAGE", **times(2300, 3, 900)), "T1"),
        (series(1, "AX T1 POST GD", **times(500, 10)), "T1ce"),
        (series(1, "t1_mprage_tra_KM"), "T1ce"),
        (series(1, "AX T1 +C"), "T1ce"),
        (series(1, "AX T1", agent=True), "T1ce"),
        (series(1, "AX T1 PRE GD"), "T1"),
        (series(1, "T1 W/O CONTRAST"), "T1"),
        (series(1, "AX T2 FSE", **times(4000, 100)), "T2"),
        (series(1, "AX FLAIR POST", agent=True), "FLAIR"),
        (series(1, "AX T2 FSE", body_part="HEADSPINE", **times(4000, 100)), "T2"),
        (series(1, "AX T2 FSE", body_part="HIPPOCAMPUS", **times(4000, 100)), "T2"),
    ],
)
def test_a_modality_is_told_by_times_and_words(given, modality):
    assert judge(given)[0] == modality


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (series(1, "3-plane LOC"), "a localiser"),
        (series(1, "AX T1", orientations=3), "several orientations"),
        (series(1, "AX DWI b1000"), "diffusion"),
        (series(1, "AX", diffusion=True), "diffusion"),
        (series(1, "ADC map"), "diffusion"),
        (series(1, "AX T2* GRE"), "susceptibility"),
        (series(1, "ep2d_perf"), "perfusion"),
        (series(1, "AX T1", image_type=("DERIVED", "SECONDARY", "MPR")), "derived"),
        (series(1, "AX T1", span=20.0), "span 20 mm"),
        (series(1, "AX PD", **times(3000, 15)), "neither description nor times (TR 3000 ms, TE 15 ms)"),
        (series(1, "CT", modality="CT"), "CT, not MR"),
        (series(1, "AX T1", persons=2), "2 patients"),
        (series(1, "SAG T1", body_part="LSPINE"), "its header reads spine, not the head"),
    ],
)
def test_other_series_are_passed_over_with_the_reason(given, why):
    modality, reason = judge(given)
    assert modality == ""
    assert why in reason


def four(**about):
    return [
        series(2, "FLAIR", **about),
        series(3, "T1", **about),
        series(4, "T1 post", **about),
        series(5, "T2", **about),
    ]


def taken(study):
    return {row["modality"]: row["series"] for row in tabulate(study) if row["taken"]}


def test_each_modality_takes_its_series():
    (study,) = group_studies(four(), Path("/source"))
    chosen = choose(study, MODALITIES, {})
    assert taken(chosen) == {"FLAIR": "2", "T1": "3", "T1ce": "4", "T2": "5"}
    assert (chosen.problem, chosen.notes) == ("", [])


def test_of_two_series_the_finer_is_taken_and_the_other_named():
    fine = series(7, "T1 post sag", spacing=(1.0, 1.0, 1.0))
    (study,) = group_studies([*four(), fine], Path("/source"))
    chosen = choose(study, MODALITIES, {})
    assert taken(chosen)["T1ce"] == "7"
    assert "several series are T1ce: 7 is taken, 4 is not" in chosen.notes[0]


def test_a_repeated_series_goes_before_the_first():
    (study,) = group_studies([*four(), series(9, "T2 repeat")], Path("/source"))
    assert taken(choose(study, MODALITIES, {}))["T2"] == "9"


def test_the_settings_overrule():
    (study,) = group_studies([*four(), series(9, "T1 post", spacing=(1.0, 1.0, 1.0))], Path("/source"))
    assert taken(choose(study, MODALITIES, {"T1ce": 4}))["T1ce"] == "4"
    assert "no series 77" in choose(study, MODALITIES, {"T1ce": 77}).problem


def test_a_missing_modality_is_named_with_what_was_found():
    (study,) = group_studies(four()[:2], Path("/source"))
    chosen = choose(study, MODALITIES, {})
    assert chosen.missing == ["T1ce", "T2"]
    assert chosen.listed == "2 FLAIR, 3 T1"


def test_two_patients_of_one_folder_are_told_apart():
    studies = group_studies([*four(), *four(person="q")], Path("/source"))
    assert [study.patient for study in studies] == ["ward_1", "ward_2"]
    assert "2 patients or studies lie in one folder" in studies[0].notes[0]


def test_a_folder_that_names_a_person_is_hidden():
    names = frozenset({"doe^jane", "doe", "jane", "4711"})
    (study,) = group_studies(four(folder="DOE_JANE/MR 4711", names=names), Path("/source"))
    assert study.patient.startswith("patient_")
    assert study.folder == "***/***"


def test_names_are_hidden_whatever_stands_between_their_parts():
    assert hide_names("T1 of Doe, Jane (4711)", {"doe^jane", "4711"}) == "T1 of *** (***)"
