import logging
import shutil
import sys
from unittest.mock import MagicMock

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from support import copy_project, real, require_pictures, rows_of, run, save_masks

from brain_tumor.data.survival.cohort import SHAPE
from brain_tumor.data.survival.shape_features import FEATURES
from brain_tumor.figures.palette import name_network
from brain_tumor.networks import networks_of
from brain_tumor.pipelines.survival.nodes import SCORES, compare_concordances
from brain_tumor.project.tracking import Tracking
from brain_tumor.reporting.survival.model_card import MODELS as CARD_MODELS
from brain_tumor.reporting.survival.report import compose_report
from brain_tumor.reporting.survival.tables import Results, write_answer
from brain_tumor.survival.models import MODELS
from brain_tumor.survival.settings import ProtocolSettings

EXPECTED = pd.DataFrame(columns=["cohort", "features", "patient", "days", "observed", "expected"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory, sample):
    """A project in which survival has run on its tiny sample, and segmentation and its masks on theirs."""
    folder = copy_project(tmp_path_factory.mktemp("project"))
    run(folder, "survival")
    run(folder, "segmentation", segmentation_source=str(sample))
    run(folder, "survival_predicted", segmentation_source=str(sample))
    return folder / "data"


def table(data, path, **options):
    return pd.read_csv(data / path, **options)


def test_whole_run_writes_every_layer(finished):
    features = table(finished, "03_primary/survival/expert/features.csv")
    patients = table(finished, "05_model_input/survival/expert/patients.csv", keep_default_na=False)
    scores = table(finished, "08_reporting/survival/expert/scores.csv")
    assert len(features) == 48
    assert features["simulated"].all()
    assert features[SHAPE].notna().all(axis=None)
    used = patients[patients["excluded"] == ""]
    assert set(patients["excluded"]) == {"", "not in survival_info.csv"}
    assert set(scores["metric"]) == {
        "accuracy",
        "mean_squared_error",
        "median_squared_error",
        "spearman",
        "concordance",
    }
    assert set(scores["patients"]) == {len(used)}
    estimates = table(finished, "07_model_output/survival/expert/estimates.csv")
    assert set(estimates["patient"]) == set(used["patient"])
    assert len(table(finished, "07_model_output/survival/expert/permutation_null.csv")) == 3 * 2
    assert set(table(finished, "08_reporting/survival/expert/importances.csv")["feature"]) >= {"age", *SHAPE}


def test_model_card_has_the_numbers_of_the_tables(finished):
    card = (finished / "08_reporting/survival/model_card.md").read_text()
    scores = table(finished, "08_reporting/survival/expert/scores.csv")
    scores["pair"] = scores["model"] + ": " + scores["features"]
    concordance = scores[scores["metric"] == "concordance"].set_index("pair")
    caption = (
        "all patients: scores of estimates by models not fitted to the patient, with 95 % bootstrap intervals "
        "over patients"
    )
    rows = rows_of(card, caption)[1:]
    assert len(rows) == len(concordance)
    for name, shown, *_ in rows:
        own = concordance.loc[name]
        # Which orders nobody, in any sample.
        interval = "" if name == "median: intercept-only" else f" ({own['low']:.2f} to {own['high']:.2f})"
        assert shown == f"{own['value']:.3f}{interval}"
    assert set(MODELS) == set(CARD_MODELS)


def test_data_sheet_has_the_numbers_of_the_tables(finished):
    sheet = (finished / "08_reporting/survival/data_sheet.md").read_text()
    patients = table(finished, "05_model_input/survival/expert/patients.csv", keep_default_na=False)
    used = patients[patients["excluded"] == ""]
    alive = (~used["observed"]).sum()
    assert (
        f"{len(used)} patients are in use, {alive} of them censored; {len(patients) - len(used)} are excluded."
    ) in sheet
    counts = {
        row[0]: (int(row[1]), int(row[2])) for row in rows_of(sheet, "Patients in use; medians and quartiles")[1:]
    }
    assert counts["all in use"] == (len(used), len(used) - alive)
    assert counts["GTR"] == ((used["resection"] == "GTR").sum(), used.loc[used["resection"] == "GTR", "observed"].sum())


def test_masks_of_a_network_have_cards_too(finished):
    for name in networks_of("segmentation"):
        folder = finished / "08_reporting/survival" / name
        assert f"survival from masks of {name_network(name)}" in (folder / "model_card.md").read_text()
        assert "too few for survival models" in (folder / "model_card.md").read_text()
        assert (folder / "data_sheet.md").is_file()


def test_report_answers_first_and_says_simulated(finished):
    report = (finished / "08_reporting/survival/report.html").read_text()
    assert "SIMULATED" in report.split("</title>")[0]
    answer = report.split('class="answer">')[1].split("</p>")[0]
    assert "simulated patients: concordance" in answer
    assert "permutation p" in answer
    assert report.count("data:image/png;base64,") == 5
    assert report.count('<svg class="plot"') == 1
    assert "Not for clinical use" in report
    for feature in FEATURES:
        assert feature.name in report
    assert 'src="http' not in report


def test_notebook_runs_on_what_the_pipeline_wrote(finished, execute_notebook):
    cells = execute_notebook("survival", finished.parent)
    require_pictures(cells, least=4)
    assert all(cell.outputs for cell in cells[2:])
    shown = str([cell.outputs for cell in cells])
    assert "age + shape" in shown
    assert "stderr" not in shown


def test_predicted_masks_give_features_and_how_they_change(finished):
    predicted, expert = (
        table(finished, f"07_model_output/survival/classic_unet/{name}.csv", keep_default_na=False)
        for name in ("features", "expert_features")
    )
    assert predicted["patient"].tolist() == expert["patient"].tolist()
    changes = table(finished, "08_reporting/survival/classic_unet/changes.csv").set_index("feature")
    assert list(changes.index) == SHAPE
    assert (expert["excluded"] == "").all()
    # 32 pixels of 7.5 mm, slices 12 mm apart
    assert set(expert["spacing_mm"]) == {"7.5 x 7.5 x 12"}
    splits = table(finished, "05_model_input/segmentation/splits.csv")
    assert set(predicted["patient"]) == set(splits.loc[splits["split"] == "test", "patient"])
    report = (finished / "08_reporting/survival/classic_unet/report.html").read_text()
    assert "masks of ClassicUNet (SIMULATED)" in report
    assert "too few for survival models, which need 30" in report
    assert report.count("data:image/png;base64,") == 1
    # A single test patient makes no pair.
    assert table(finished, "08_reporting/survival/classic_unet/concordances.csv").empty
    assert "What the masks change in the concordance" not in report


@pytest.fixture
def both_masks(finished):
    """What `compare_concordances` takes: five patients of the expert masks stand for those of a network."""
    patients = table(finished, "05_model_input/survival/expert/patients.csv", keep_default_na=False, na_values=[""])
    patients = patients.fillna({"excluded": "", "note": ""})
    used = patients[patients["excluded"] == ""].head(5)
    # The tiny sample has too few deaths to fit Cox to; everybody else is there twice.
    again = patients[~patients["patient"].isin(used["patient"])]
    again = again.assign(patient=again["patient"] + "_again", person=again["person"] + "_again")
    patients = pd.concat([patients, again], ignore_index=True)
    return used, used.assign(TC_ml=used["TC_ml"] + 1), patients


def test_models_are_fitted_to_patients_without_a_predicted_mask(both_masks, finished):
    used, features, patients = both_masks
    found = compare_concordances(used, features, patients, ProtocolSettings(bootstrap=100, min_deaths=29))
    assert found["masks"].tolist() == ["", "reference", "predicted", "predicted - reference"]
    assert set(found["fitted_to"]) == {(patients["excluded"] == "").sum() - 5}
    assert set(found["patients"]) == {5}
    changes = table(finished, "08_reporting/survival/classic_unet/changes.csv")
    results = Results(patients, pd.DataFrame(columns=SCORES), pd.DataFrame(), pd.DataFrame(), changes, found)
    assert "predicted - reference" in compose_report(results, ProtocolSettings(), {}, EXPECTED)


def test_models_of_simulated_patients_are_not_given_real_ones(both_masks, caplog):
    used, features, patients = both_masks
    protocol = ProtocolSettings(bootstrap=100, min_deaths=29)
    found = compare_concordances(used.assign(simulated=False), features, patients, protocol)
    assert found.empty
    assert "the masks of survival_source are simulated and those of the network are not" in caplog.text


def test_an_unmeasured_expert_mask_leaves_its_patient_out(both_masks):
    used, features, patients = both_masks
    protocol = ProtocolSettings(bootstrap=100, min_deaths=29)
    # Under the name of another year, the patient is still the same person.
    patients["patient"] = "Brats18_" + patients["patient"]
    broken = features.assign(excluded=np.where(features["patient"] == used["patient"].iloc[0], "empty", ""))
    found = compare_concordances(used, broken, patients, protocol)
    assert set(found["patients"]) == {4}


def test_volume_of_expert_slices_is_that_of_the_index(finished):
    """Straight from the raw slices: pixels x 1 mm x 1 mm x 12 mm."""
    index = table(finished, "02_intermediate/segmentation/index.csv", keep_default_na=False)
    expert = table(finished, "07_model_output/survival/classic_unet/expert_features.csv").set_index("patient")
    voxels = index.groupby("patient")[["NCR_pixels", "ED_pixels", "ET_pixels"]].sum().sum(axis=1)
    for patient, row in expert.iterrows():
        assert row["WT_ml"] == pytest.approx(voxels[patient] * 12 / 1000, rel=0.15)


@pytest.fixture
def masks(tmp_path):
    """Small masks of 45 patients, with tables, in a folder of the user's."""
    return save_masks(tmp_path / "masks", 45)


def rewrite(folder, change):
    survival = pd.read_csv(folder / "survival_info.csv", dtype=str)
    change(survival).to_csv(folder / "survival_info.csv", index=False)


def test_bad_patients_are_set_aside_and_the_rest_is_modelled(project, masks, caplog):
    """Days as text, ages missing and 0, patients in one table only, an empty and a broken mask, two rows, two masks."""

    def spoil(survival):
        survival = survival.set_index("Brats20ID")
        survival.loc["p00", "Survival_days"] = "about a year"
        survival.loc["p01", "Age"] = pd.NA
        survival.loc["p02", "Age"] = "0"
        survival.loc["p07", "Survival_days"] = "ALIVE (361 days later)"
        survival.loc["maskless"] = ["60", "100", "GTR"]
        survival = survival.drop("p03").reset_index()
        return pd.concat([survival, survival[survival["Brats20ID"] == "p04"].assign(Age="33")])

    rewrite(masks, spoil)
    empty = nib.Nifti1Image(np.zeros((24, 24, 24), np.uint8), np.eye(4))
    nib.save(empty, masks / "p05_seg.nii.gz")
    (masks / "p06_seg.nii.gz").write_bytes((masks / "p06_seg.nii.gz").read_bytes()[:100])
    (masks / "again").mkdir()
    shutil.copy(masks / "p08_seg.nii.gz", masks / "again")
    with caplog.at_level(logging.INFO):
        run(project, "survival", survival_source=str(masks))
    patients = table(project, "data/05_model_input/survival/expert/patients.csv", keep_default_na=False).set_index(
        "patient"
    )
    excluded = patients.loc[patients["excluded"] != "", "excluded"]
    assert sorted(excluded.index) == ["maskless", "p00", "p03", "p04", "p05", "p06", "p08"]
    assert (
        excluded["p00"]
        == "days must be a number above 0 or 'ALIVE (N days later)', got 'about a year'; correct survival_info.csv"
    )
    assert excluded["p03"] == "not in survival_info.csv"
    assert excluded["p04"] == "2 rows that differ in the tables; keep the true one"
    assert excluded["p05"].startswith("the mask is empty")
    assert excluded["p08"] == "several masks: again/p08_seg.nii.gz and p08_seg.nii.gz; keep one"
    assert patients.loc[["p01", "p02"], "note"].tolist() == ["age not known", "age not known ('0' in the table)"]
    assert patients.loc["p07", ["days", "observed"]].astype(str).tolist() == ["361.0", "False"]
    assert "excluded: p05: the mask is empty" in caplog.text
    report = (project / "data/08_reporting/survival/report.html").read_text()
    assert "39 patients are used, 1 of them censored; 7 are excluded." in report
    assert "about a year" in report
    assert "Where the brain&#39;s centre lies is not known for 39" in report
    assert "SIMULATED" not in report


def test_tables_may_lie_elsewhere(project, masks, tmp_path):
    (tmp_path / "tables").mkdir()
    for name in ("survival_info.csv", "name_mapping.csv"):
        shutil.move(masks / name, tmp_path / "tables")
    with pytest.raises(
        FileNotFoundError, match=r"masks holds no survival_info.csv with known days; give .* survival_tables=PATH"
    ):
        run(project, "survival", survival_source=str(masks))
    nodes = [f"survival.expert.{name}" for name in ("measure_masks", "join_patients")]
    run(project, "survival", node_names=nodes, survival_source=str(masks), survival_tables=str(tmp_path / "tables"))
    patients = table(project, "data/05_model_input/survival/expert/patients.csv", keep_default_na=False)
    assert (patients["excluded"] == "").all()
    assert set(patients["grade"]) == {"HGG"}
    assert not patients["simulated"].any()
    (tmp_path / "tables" / "SIMULATED.txt").touch()  # simulated days make simulated patients of real masks
    run(project, "survival", node_names=nodes, survival_source=str(masks), survival_tables=str(tmp_path / "tables"))
    assert table(project, "data/05_model_input/survival/expert/patients.csv")["simulated"].all()


def test_too_few_patients_have_features_alone(project, masks, caplog):
    for k in range(6, 45):
        (masks / f"p{k:02d}_seg.nii.gz").unlink()
    run(project, "survival", survival_source=str(masks))
    assert (
        "the report has features alone: patients with a mask and a known day of death: 6, too few for survival models"
        in caplog.text
    )
    report = (project / "data/08_reporting/survival/report.html").read_text()
    assert "Patients with a mask and a known day of death: 6, too few for survival models, which need 30." in report
    assert table(project, "data/08_reporting/survival/expert/scores.csv").empty


def living(survival):
    """45 patients, of whom 29 died."""
    survival.loc[:15, "Survival_days"] = "ALIVE (361 days later)"
    return survival


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (living, "Patients with a mask and a known day of death: 29, too few for survival models, which need 30."),
        (
            lambda survival: survival.assign(Age=pd.NA),
            "No two different ages are known, and survival models are compared with age alone.",
        ),
        (
            lambda survival: survival.assign(Age="61.5"),
            "No two different ages are known, and survival models are compared with age alone.",
        ),
    ],
)
def test_why_there_is_no_model(project, masks, change, said):
    rewrite(masks, change)
    run(project, "survival", survival_source=str(masks))
    assert table(project, "data/08_reporting/survival/expert/scores.csv").empty
    for name in ("report.html", "model_card.md"):
        assert said in (project / "data/08_reporting/survival" / name).read_text()


@pytest.mark.parametrize(
    ("gain", "low", "high", "fold_low", "p", "said"),
    [
        (0.05, 0.01, 0.09, 0.01, 0.005, "The segmentation adds to age on all 40 patients"),
        (
            0.05,
            0.01,
            0.09,
            -0.01,
            0.005,
            "The segmentation may add to age, but this is not certain, on all 40 patients",
        ),
        (
            0.05,
            -0.01,
            0.09,
            -0.02,
            0.005,
            "The segmentation may add to age, but this is not certain, on all 40 patients",
        ),
        (-0.01, -0.05, 0.03, -0.06, 0.005, "No gain from the segmentation over age is shown on all 40 patients"),
        (0.01, -0.03, 0.05, -0.04, 0.3, "No gain from the segmentation over age is shown on all 40 patients"),
        (-0.05, -0.09, -0.01, -0.1, 0.9, "The segmentation makes the prediction from age worse on all 40 patients"),
    ],
)
def test_the_answer_follows_its_rule(gain, low, high, fold_low, p, said):
    row = {"cohort": "all patients", "patients": 40, "deaths": 38, "low": 0.5, "high": 0.7}
    metrics = ("concordance", "spearman", "accuracy", "mean_squared_error", "median_squared_error")
    pairs = (("Cox", "age"), ("Cox", "age + shape"))
    scores = pd.DataFrame(
        [row | {"model": m, "features": f, "metric": metric, "value": 0.6} for m, f in pairs for metric in metrics]
    )
    tested = {
        "cohort": "all patients",
        "model": "Cox",
        "features": "age + shape",
        "gain": gain,
        "low": low,
        "high": high,
        "p": p,
        "null_95": 0.01,
    }
    gains = pd.DataFrame(
        [
            tested | {"metric": metric, "fold_gain": gain, "fold_low": fold_low, "fold_high": high}
            for metric in metrics[:2]
        ]
    )
    days = pd.DataFrame(
        {
            "patient": ["a", "b"],
            "excluded": "",
            "note": "",
            "observed": True,
            "resection": "GTR",
            "days": [100.0, 500],
            "simulated": False,
        }
    )
    patients = days.assign(centre_from="scan", age=[50.0, 60], **dict.fromkeys(SHAPE, 1.0))
    importances = pd.DataFrame(
        {"cohort": ["all patients"], "feature": ["age"], "loss": [0.1], "low": [0.0], "high": [0.2]}
    )
    report = compose_report(Results(patients, scores, gains, importances), ProtocolSettings(), {}, EXPECTED)
    assert said in report.split('class="answer">')[1].split("</p>")[0]


def test_a_network_whose_patients_have_no_volume_changes_nothing_that_is_known():
    change = {
        "feature": "WT_ml",
        "patients": 0,
        "network": "classic_unet",
        "bias": np.nan,
        "expert": np.nan,
        "low": np.nan,
        "high": np.nan,
    }
    patients = pd.DataFrame({"excluded": ["slice 58 alone"], "observed": False, "age": 50.0, "simulated": False})
    results = Results(patients, pd.DataFrame({"cohort": []}), pd.DataFrame(), pd.DataFrame(), pd.DataFrame([change]))
    answer = write_answer(results, ProtocolSettings())
    assert answer.startswith(
        "No patient's slices make a volume, so what the masks of ClassicUNet change in the features is not known"
    )
    assert "nan" not in answer


def test_real_masks_go_through_to_the_report(project):
    quick = {"protocol": {"permutations": 2}}
    tables = str(real("brats2020-training-data"))
    run(
        project,
        "survival",
        survival_source=str(real("brats2020-masks-128")),
        survival_tables=tables,
        survival=quick,
        preparation={"workers": -1},
    )
    patients = table(project, "data/05_model_input/survival/expert/patients.csv", keep_default_na=False)
    used = patients[patients["excluded"] == ""]
    assert len(used) == 235
    assert patients.set_index("patient").loc["BraTS20_Training_355", "excluded"] == "no mask of this patient"
    assert set(used["centre_from"]) == {"BraTS space"}
    scores = table(project, "data/08_reporting/survival/expert/scores.csv").set_index(
        ["cohort", "model", "features", "metric"]
    )["value"]
    assert scores["all patients", "linear", "age", "concordance"] == pytest.approx(0.62, abs=0.02)
    assert scores["GTR", "linear", "age", "concordance"] == pytest.approx(0.64, abs=0.02)


def test_scores_of_survival_are_not_tracked_as_those_of_images(tmp_path, monkeypatch):
    tracking, mlflow = Tracking(), MagicMock()
    tracking.address = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    catalog = MagicMock(spec=DataCatalog)
    catalog.load.return_value.description = {}
    pipeline = MagicMock(spec=Pipeline)
    pipeline.all_outputs.return_value = {"survival.expert.scores"}
    tracking.after_pipeline_run(pipeline, catalog)
    mlflow.MlflowClient.assert_not_called()
    pipeline.all_outputs.return_value = {"classification.cnn.scores"}
    tracking.after_pipeline_run(pipeline, catalog)
    mlflow.MlflowClient.assert_called_once_with(tracking.address)


def test_registered_pipelines():
    from brain_tumor.pipeline_registry import register_pipelines

    pipelines = register_pipelines()
    assert {node.namespace for node in pipelines["survival"].nodes} == {"survival.expert"}
    # Models are fitted to the features of expert masks.
    assert {node.namespace for node in pipelines["survival_predicted"].nodes} == {
        "survival.expert",
        *(f"survival.{network}" for network in networks_of("segmentation")),
    }
    assert set(pipelines["survival"].nodes) | set(pipelines["survival_predicted"].nodes) < set(pipelines["all"].nodes)
