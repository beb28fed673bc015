import json
import logging
import re
import shutil
import sys
import types
from dataclasses import replace

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from kedro.pipeline import Pipeline
from kedro.runner import ParallelRunner
from support import copy_project, real, require_pictures, rows_of, run

from brain_tumor.data.common.store import Store
from brain_tumor.data.scans.brain_crop import find_brain_crop
from brain_tumor.data.scans.components import label_components
from brain_tumor.datasets import NetworkDataset
from brain_tumor.figures.palette import name_network
from brain_tumor.metrics.segmentation import METRICS
from brain_tumor.networks import NETWORKS, build, networks_of
from brain_tumor.networks.trained import read_network, write_network
from brain_tumor.pipeline_registry import register_pipelines
from brain_tumor.pipelines.segmentation.comparison import compare_networks
from brain_tumor.pipelines.segmentation.evaluation import require_unseen
from brain_tumor.pipelines.segmentation.training import train_network
from brain_tumor.project.up_to_date import RUN_ALL
from brain_tumor.reporting.segmentation.model_card import _limits
from brain_tumor.reporting.segmentation.tables import protocol
from brain_tumor.training.checkpoints import Checkpoints
from brain_tumor.training.fit import fit
from brain_tumor.training.settings import EngineSettings, ExperimentSettings, SegmentationRecipe


@pytest.fixture(scope="module")
def finished(tmp_path_factory, sample):
    """A project in which the whole pipeline has run once on the tiny sample."""
    folder = copy_project(tmp_path_factory.mktemp("project"))
    run(folder, segmentation_source=str(sample))
    return folder


def test_whole_run_writes_every_layer(finished):
    data = finished / "data"
    index = pd.read_csv(data / "02_intermediate/segmentation/index.csv", keep_default_na=False)
    splits = pd.read_csv(data / "05_model_input/segmentation/splits.csv")
    scores = pd.read_csv(data / "08_reporting/segmentation/classic_unet/patient_scores.csv")
    comparison = pd.read_csv(data / "08_reporting/segmentation/comparison.csv")
    assert len(index) == 25
    assert index["simulated"].all()
    assert set(scores["patient"]) == set(splits.loc[splits["split"] == "test", "patient"])
    assert list(comparison.columns) == [
        "network",
        "parameters",
        "set",
        "protocol",
        "target",
        "metric",
        "mean",
        "median",
        "low",
        "high",
        "patients",
    ]
    assert list(comparison["network"].unique()) == networks_of("segmentation")
    assert set(comparison["protocol"]) == {"volume", "slice", "reference"}
    assert set(comparison.query("protocol == 'volume'")["target"]) == {"NCR", "ED", "ET", "WT", "TC"}
    assert set(comparison.query("protocol == 'volume'")["metric"]) == {
        *METRICS,
        "hd95_mm",
        "surface_dice",
        "confidence",
    }
    assert comparison.query("metric == 'hd95_mm'")["mean"].notna().all()  # the sample's slices make volumes
    # Pairs of networks, targets.
    assert len(pd.read_csv(data / "08_reporting/segmentation/differences.csv")) == 4 * 3 * 5
    costs = pd.read_csv(data / "08_reporting/segmentation/costs.csv").set_index("network")
    assert (costs[["gflops_a_slice", "slices_a_second", "training_seconds"]] > 0).all().all()
    history = Store(data / "06_models/segmentation/attention_unet/history.h5")
    assert history.description["names"] == ["NCR", "ED", "ET", "gates.0", "gates.1", "gates.2", "gates.3"]
    assert history.read(np.arange(2), "maps")[0].shape == (2, 7, 32, 32)
    assert len(pd.read_csv(data / "06_models/segmentation/classic_unet/training_log.csv")) == 2


@pytest.mark.filterwarnings(
    "ignore:.*use of fork:DeprecationWarning"
)  # of Python 3.12; Kedro forks, before torch is imported
def test_nodes_side_by_side_find_the_same(finished, project, sample):
    """As `make demo` runs them, each in a process of its own.

    One network is trained there, the others are taken from their checkpoints.
    """
    shutil.copytree(
        finished / "data/06_models", project / "data/06_models", ignore=shutil.ignore_patterns("improved_unet")
    )
    run(project, runner=ParallelRunner(max_workers=2), segmentation_source=str(sample))
    for table in ("comparison.csv", "differences.csv", "attention_unet/attention_summary.csv"):
        one, other = (pd.read_csv(folder / "data/08_reporting/segmentation" / table) for folder in (finished, project))
        pd.testing.assert_frame_equal(one, other)
    assert (project / "data/08_reporting/segmentation/report.html").stat().st_size > 100_000


def test_every_store_says_that_it_is_simulated(finished):
    stores = [path for layer in finished.glob("data/0[2-7]*") for path in layer.rglob("*.h5")]
    assert {path.name for path in stores} == {"slices.h5", "history.h5", "predictions.h5", "attention_maps.h5"}
    assert all(Store(path).description["simulated"] for path in stores)


def test_scores_are_those_of_the_predictions_on_disk(finished):
    """Dice of the whole tumour worked out again, straight from the two HDF5 files."""
    slices = Store(finished / "data/03_primary/segmentation/slices.h5")
    predictions = Store(finished / "data/07_model_output/segmentation/classic_unet/predictions.h5")
    scores = pd.read_csv(finished / "data/08_reporting/segmentation/classic_unet/patient_scores.csv")
    table = predictions.rows
    (masks,) = predictions.read(np.arange(len(table)), "predicted")
    (labels,) = slices.read(table["row"].to_numpy(), "labels")
    found, truth = masks > 0, labels > 0
    for patient in scores["patient"].unique():
        mine = (table["patient"] == patient).to_numpy()
        total = found[mine].sum() + truth[mine].sum()
        dice = 2 * (found[mine] & truth[mine]).sum() / total if total else 1.0
        assert scores.query("patient == @patient and target == 'WT' and metric == 'dice'")[
            "value"
        ].item() == pytest.approx(dice)


def test_confidence_is_that_of_the_probabilities_on_disk(finished):
    """Of the whole tumour, worked out again: the probabilities of the tissues add up, to 1 at most."""
    predictions = Store(finished / "data/07_model_output/segmentation/classic_unet/predictions.h5")
    folder = finished / "data/08_reporting/segmentation"
    scores = pd.read_csv(folder / "classic_unet/patient_scores.csv")
    probability, masks = predictions.read(np.arange(len(predictions.rows)), "probability", "predicted")
    tumour = np.minimum(probability.sum(1, dtype=float) / 255, 1)
    expected = 2 * tumour[masks > 0].sum() / (tumour.sum() + (masks > 0).sum())
    own = scores.query("target == 'WT' and metric == 'confidence'")
    assert own["value"].tolist() == pytest.approx([expected])
    order = pd.read_csv(folder / "uncertainty.csv")
    assert list(order.columns) == ["set", "target", "metric", "value", "low", "high", "patients", "network"]
    assert len(order) == 4 * 5 * 5  # networks, targets, metrics
    dice = scores.query("target == 'WT' and metric == 'dice'")["value"].item()
    of_one = order.query("network == 'classic_unet' and target == 'WT'").set_index("metric")["value"]
    assert of_one["aurc"] == pytest.approx(1 - dice)
    assert np.isnan(of_one["spearman"]), "one patient has no order"
    assert "1 test patients are too few" in (folder / "report.html").read_text()


def test_leaderboard_is_the_first_table_of_the_report(finished):
    folder = finished / "data/08_reporting/segmentation"
    table = (folder / "report.html").read_text().split("</table>")[0]
    heads = re.findall(r'<th scope="col"[^>]*><button type="button">(.*?)</button>', table)
    assert heads == [
        "network",
        "Dice of WT",
        "difference from the best",
        "source",
        "pretrained",
        "parameters",
        "GFLOPs",
        "ms per slice",
        "training, s",
    ]
    comparison = pd.read_csv(folder / "comparison.csv").query("protocol == 'volume' and metric == 'dice'")
    ranked = comparison[comparison["target"] == "WT"].sort_values("mean", ascending=False)["network"]
    shown = re.findall(r"<tr><td[^>]*>(.*?)</td>", table)
    assert [name.replace("<wbr>", "") for name in shown] == [name_network(name) for name in ranked]
    assert table.count(">this project</td>") == 4


def test_small_pieces_are_dropped_from_what_is_found(finished, project):
    """What is found in the volume of the test patient, with a bound between the largest pieces."""
    data = "data/07_model_output/segmentation/classic_unet/predictions.h5"
    slices = Store(finished / "data/03_primary/segmentation/slices.h5")
    shutil.copytree(finished / "data", project / "data", dirs_exist_ok=True)
    run(project, node_names=[ONE[1]], segmentation={"prediction": {"min_component_ml": 0}})
    (everything,) = Store(project / data).read(np.arange(5), "predicted")
    own = slices.rows.loc[Store(project / data).rows["row"]]
    voxel_ml = float((own["row_mm"] * own["column_mm"] * own["slice_mm"] * own["slice"].diff().iloc[1]).iloc[0]) / 1000
    _, volumes = label_components(everything > 0, voxel_ml)
    # The first is the background.
    assert len(volumes) > 2
    bound = float(np.sort(volumes)[-2:].mean())
    run(project, node_names=[ONE[1]], segmentation={"prediction": {"min_component_ml": bound}})
    (kept,) = Store(project / data).read(np.arange(5), "predicted")
    assert np.unique(everything[kept != everything]).any()
    assert not kept[kept != everything].any()
    assert (kept > 0).sum() * voxel_ml == pytest.approx(volumes[volumes >= bound].sum())


def test_too_little_of_a_tissue_is_taken_for_another(finished, project):
    """What is found with a bound that no patient reaches, for the last tissue that is found at all."""
    data = "data/07_model_output/segmentation/classic_unet/predictions.h5"
    shutil.copytree(finished / "data", project / "data", dirs_exist_ok=True)
    run(project, node_names=[ONE[1]], segmentation={"prediction": {"min_volume": {"ET": {"ml": 0}}}})
    (before,) = Store(project / data).read(np.arange(5), "predicted")
    tissues, last = ["NCR", "ED", "ET"], int(before.max())
    other = last % 3 + 1
    least = {"ET": {"ml": 0}} | {tissues[last - 1]: {"ml": 1e6, "replace_with": tissues[other - 1]}}
    run(project, node_names=[ONE[1]], segmentation={"prediction": {"min_volume": least}})
    (after,) = Store(project / data).read(np.arange(5), "predicted")
    assert last
    assert np.array_equal(after, np.where(before == last, other, before))


def test_an_epoch_learns_from_the_recipes_share_of_slices_without_tumour(finished, project, monkeypatch):
    shutil.copytree(finished / "data", project / "data", dirs_exist_ok=True)
    seen = []
    monkeypatch.setattr("brain_tumor.training.fit.fit", lambda job: seen.append(job.train) or fit(job))
    run(project, node_names=ONE[:1], segmentation={"recipe": {"empty_slice_rate": 0.5}})
    (rows,) = seen
    assert rows.rate == 0.5
    assert np.array_equal(rows.undersampled, rows.store.rows["tumour_pixels"].to_numpy()[rows.rows] == 0)


def test_network_file_says_what_it_needs(finished):
    network = NetworkDataset(
        filepath=str(finished / "data/06_models/segmentation/classic_unet/network.safetensors")
    ).load()
    assert network.name == "classic_unet"
    assert network.sizes == {"in_channels": 4, "out_channels": 3, "n_filters": 4}
    assert network.description["modalities"] == ["FLAIR", "T1", "T1ce", "T2"]
    assert network.description["tissues"] == ["NCR", "ED", "ET"]
    assert network.description["simulated"] is True
    assert network.description["initialised_from"] is None
    assert network.description["trained_on"] == [{"patients": 3, "slices": 15}]


def test_report_needs_nothing_else_and_says_simulated(finished):
    report = (finished / "data/08_reporting/segmentation/report.html").read_text()
    assert "SIMULATED" in report.split("</title>")[0]
    assert report.count("data:image/png;base64,") == 1 + 2 + 4 + 2  # of risk, costs, training, what maps mean
    assert report.count("data:image/webp;base64,") == 4 + 2 * 2  # predictions, attention maps and their epochs
    assert report.count('type="range"') == 2
    assert "image/gif" not in report
    assert 'src="http' not in report
    # Each network has one test patient, and a page to look at its mask.
    assert report.count("href=") == report.count('href="#') + 4
    assert report.count('alt="') == 1 + 2 + 4 * 2 + 2 * 3
    assert report.count('<svg class="plot"') == 2 + 4
    assert 'data-name="BraTS20_Training_' in report
    assert "1 simulated test patient" in report
    sections = {
        name: report.split(f">Attention of {name}</h2>")[1].split("<h2")[0]
        for name in ("AttentionUNet", "ResidualAttentionUNet")
    }
    assert ["The gates were trained to show the tumour" in text for text in sections.values()] == [True, False]
    assert "deep-learning-project" not in report  # scores of real patients say nothing beside those of phantoms
    answer, picture, table, plot = (report.index(w) for w in ('class="answer"', "data:image", 'class="map"', "<svg"))
    assert answer < picture < table < plot


def test_model_card_has_the_numbers_of_the_tables(finished):
    reporting = finished / "data/08_reporting/segmentation"
    card, comparison = (reporting / "model_card.md").read_text(), pd.read_csv(reporting / "comparison.csv")
    head, *rows = rows_of(card, "Mean Dice over test patients and 95 % interval")
    comparison["network"] = comparison["network"].map(name_network)
    dice = comparison.query("protocol == 'volume' and set == 'test' and metric == 'dice'").set_index(
        ["network", "target"]
    )
    for row in rows:
        shown = dict(zip(head, row, strict=True))
        own = dice.loc[shown["network"]]
        assert shown["parameters"] == f"{own['parameters'].iloc[0]:,}"
        assert int(shown["patients"]) == own["patients"].iloc[0]
        # One patient: no intervals.
        assert [shown[target] for target in own.index] == [f"{mean:.3f}" for mean in own["mean"]]
    splits, index = (
        pd.read_csv(finished / f"data/{name}.csv")
        for name in ("05_model_input/segmentation/splits", "02_intermediate/segmentation/index")
    )
    for name, patients, slices in rows_of(card, "Patients and slices in each set")[1:]:
        own = splits.loc[splits["split"] == name, "patient"]
        assert (int(patients), int(slices)) == (len(own), index["patient"].isin(own).sum())
    assert "classic_unet: 2; improved_unet: 10" in card  # epochs that networks have of their own
    assert "**Not for clinical use.**" in card
    assert "SIMULATED" in card
    assert "Menze" not in card  # phantoms are not the published patients


def test_card_says_on_whom_the_least_amount_of_a_tissue_was_set():
    comparison = pd.DataFrame({"set": ["test"], "protocol": "volume", "patients": 6})
    real, rule = (
        {"data_set": "BraTS 2020", "simulated": False, "slice_size": 128},
        {"ET": {"ml": 0.2, "replace_with": "NCR"}},
    )
    said = "all 368 patients of BraTS 2020"
    assert said in " ".join(_limits(comparison, real, rule))
    for about, least in (
        (real, {}),
        (real, {"ET": {"ml": 0, "replace_with": "NCR"}}),
        (real | {"simulated": True}, rule),
        (real | {"data_set": "mine"}, rule),
    ):
        assert said not in " ".join(_limits(comparison, about, least))


def test_data_sheet_has_the_numbers_of_the_tables(finished):
    sheet = (finished / "data/08_reporting/segmentation/data_sheet.md").read_text()
    index = pd.read_csv(finished / "data/02_intermediate/segmentation/index.csv")
    patients = pd.read_csv(finished / "data/02_intermediate/segmentation/patients.csv", keep_default_na=False)
    tumour = (index[["NCR_pixels", "ED_pixels", "ET_pixels"]].sum(axis=1) > 0).sum()
    assert "25 slices of 5 patients are in use; 0 are excluded." in sheet
    assert f"{tumour} of 25 slices show tumour" in sheet
    for tissue, _, median, _, without in rows_of(sheet, "Millilitres of each tissue of a patient")[1:]:
        assert float(median) == pytest.approx(patients[f"{tissue}_ml"].median(), abs=6e-4)
        assert int(without) == (patients[f"{tissue}_ml"] == 0).sum()
    assert dict(rows_of(sheet, "Patients of each grade")[1:]) == {
        grade: str(n) for grade, n in patients["grade"].value_counts().items()
    }


def test_notebook_runs_on_what_the_pipeline_wrote(finished, execute_notebook):
    """Every cell, and the tables in it are those of the catalog."""
    cells = execute_notebook("segmentation", finished)
    require_pictures(cells, least=7)
    shown = "".join(str(cell.outputs) for cell in cells)
    assert "stderr" not in shown
    assert "mean Dice of WT" in shown
    assert "gates.3" in shown


def test_second_run_prepares_nothing(finished, sample, caplog, monkeypatch):
    """Nor do nodes that run again for another reason."""
    monkeypatch.setenv(RUN_ALL, "1")
    store = finished / "data/03_primary/segmentation/slices.h5"
    before = store.stat().st_mtime_ns
    with caplog.at_level(logging.INFO):
        run(finished, "data_engineering", segmentation_source=str(sample))
    assert store.stat().st_mtime_ns == before
    assert "0 new or changed since the last run" in caplog.text
    assert "same files, same settings" in caplog.text


def test_second_run_runs_nothing_and_says_where_the_report_is(finished, sample, caplog):
    reports = [
        finished / "data/08_reporting/segmentation" / name
        for name in ("report.html", "attention_unet/attention_summary.csv")
    ]
    before = [report.stat().st_mtime_ns for report in reports]
    with caplog.at_level(logging.INFO):
        results = run(finished, segmentation_source=str(sample))
    assert [report.stat().st_mtime_ns for report in reports] == before
    assert results["segmentation.report"].load().startswith("<!")
    assert "48 of 48 nodes are up to date" in caplog.text
    assert re.fullmatch(
        r"Report: .*segmentation/report\.html \(\d+ s; 48 of 48 nodes were up to date\)", caplog.messages[-1]
    )


def nodes_run(caplog):
    return {message.rpartition(" ")[2] for message in caplog.messages if message.startswith("> ")}  # > 3/48 name


def test_what_changed_and_all_that_is_made_from_it_runs_again(finished, sample, caplog):
    """Files that were lost, edited or replaced, a checkpoint deleted, a setting; never what isn't made from them."""
    every = {node.name for node in register_pipelines()["segmentation"].nodes}
    network = {name for name in every if name.startswith("segmentation.attention_unet.")}
    compared = {f"segmentation.{name}" for name in ("compare_networks", "write_report", "write_model_card")}
    data = finished / "data"

    def run_again(**params):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            run(finished, segmentation_source=str(sample), **params)
        return nodes_run(caplog)

    (data / "08_reporting/segmentation/model_card.md").unlink()
    assert run_again() == {"segmentation.write_model_card"}
    (data / "08_reporting/segmentation/attention_unet/attention_figures/1_maps.png").write_bytes(b"edited")
    assert run_again() == {"segmentation.attention_unet.draw_attention", "segmentation.write_report"}
    given = data / "06_models/segmentation/attention_unet/network.safetensors"
    given.write_bytes(given.read_bytes() + b" ")  # as if replaced; written again from its checkpoint
    assert run_again() == network | compared
    assert run_again() == set()
    shutil.rmtree(next((data / "06_models/segmentation/attention_unet/checkpoints").iterdir()))
    assert run_again() == network | compared
    assert "attention_unet: training" in caplog.text
    predicted = run_again(segmentation={"prediction": {"tta_flip": False}})
    assert predicted >= {f"segmentation.{name}.predict_patients" for name in networks_of("segmentation")}
    assert not [name for name in predicted if name.startswith("data_segmentation.") or name.endswith("train_network")]
    run_again()
    assert run_again() == set()


def test_networks_see_the_window_that_holds_every_brain(project, sample, caplog):
    run(
        project,
        "data_engineering",
        segmentation_source=str(sample),
        data_segmentation={"preparation": {"slice_size": 64}},
    )
    slices = Store(project / "data/03_primary/segmentation/slices.h5")
    brain = (slices.read(np.arange(25), "image")[0] != 0).any((0, 1))
    window = find_brain_crop(slices)
    assert window.crop(brain).sum() == brain.sum()
    assert window.shape == (48, 64)
    with caplog.at_level(logging.INFO):
        names = [
            "train_network",
            "predict_patients",
            "examine_attention",
            "summarise_attention",
            "draw_attention",
            "measure_cost",
        ]
        run(
            project,
            node_names=[f"segmentation.attention_unet.{name}" for name in names],
            segmentation_source=str(sample),
        )
    assert "attention_unet sees 48 x 64 of the 64 x 64 pixels" in caplog.text
    models = project / "data/06_models/segmentation/attention_unet"
    assert read_network(models / "network.safetensors").description["window"] == [48, 64]
    (history,) = Store(models / "history.h5").read(np.arange(2), "maps")
    assert history.shape == (2, 7, 64, 64)
    assert np.isnan(history).sum() == 2 * 7 * 16 * 64
    meaning = pd.read_csv(project / "data/08_reporting/segmentation/attention_unet/attention_scores.csv")
    gates = meaning[meaning["map"].str.startswith("gates.") & (meaning["metric"] == "auc_brain")]
    assert len(gates) == 4 * meaning["patient"].nunique()
    assert gates["value"].notna().all()
    assert (
        project / "data/08_reporting/segmentation/attention_unet/attention_figures/1_maps.png"
    ).stat().st_size > 10_000
    (probability,) = Store(project / "data/07_model_output/segmentation/attention_unet/predictions.h5").read(
        np.arange(5), "probability"
    )
    assert window.crop(probability).sum() == probability.sum() > 0


def test_changed_setting_prepares_again(project, sample):
    run(project, "data_engineering", segmentation_source=str(sample))
    run(
        project,
        "data_engineering",
        segmentation_source=str(sample),
        data_segmentation={"preparation": {"slice_size": 16}},
    )
    store = Store(project / "data/03_primary/segmentation/slices.h5")
    assert store.description["slice_size"] == 16
    assert store.read(np.array([0]), "image")[0].shape == (1, 4, 16, 16)


def test_bad_files_are_left_out_and_the_rest_is_used(project, sample, tmp_path, caplog):
    source = shutil.copytree(sample, tmp_path / "source")
    broken = next(source.rglob("volume_2_slice_74.h5"))
    broken.write_bytes(broken.read_bytes()[:5000])
    run(project, "data_engineering", segmentation_source=str(source))
    index = pd.read_csv(project / "data/02_intermediate/segmentation/index.csv", keep_default_na=False)
    (row,) = index[index["excluded"] != ""].to_dict("records")
    assert (row["patient"], row["slice"]) == ("BraTS20_Training_002", 74)
    assert "it is damaged or cut off; fetch it again" in row["excluded"]
    assert broken.name in caplog.text
    assert len(Store(project / "data/03_primary/segmentation/slices.h5").rows) == 24


def test_misspelt_parameter_is_refused(project):
    with pytest.raises(ValueError, match="did you mean 'segmentation_source'"):
        run(project, segmentation_sorce="/tmp")
    with pytest.raises(ValueError, match=r"did you mean 'segmentation\.recipe\.epochs'"):
        run(project, segmentation={"recipe": {"epoch": 3}})


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            "segmentaton_source: /scans",
            "there is no parameter 'segmentaton_source'; did you mean 'segmentation_source'",
        ),
        ("segmentation: {fold: 5}", r"there is no parameter 'segmentation\.fold'; did you mean 'segmentation\.folds'"),
        ("data_segmentation: {splitt: {test: 0.1}}", r"did you mean 'data_segmentation\.split'"),
        (
            "training.seed: 1",
            r"'training\.seed' in a parameters file is one name with a dot in it; write it as a block in a block",
        ),
    ],
)
def test_a_misspelt_name_in_a_parameters_file_is_refused(project, written, message):
    (project / "conf/test/parameters_own.yml").write_text(written)
    with pytest.raises(ValueError, match=message):
        run(project)


def test_a_source_that_is_not_used_is_reported(finished, project, caplog):
    shutil.copytree(finished / "data", project / "data", dirs_exist_ok=True)
    run(
        project,
        node_names=["segmentation.classic_unet.count_pixels"],
        segmentation_source="/nowhere",
        data_segmentation={"preparation": {"slice_size": 64}},
    )
    assert "this run prepares no data, so it doesn't use segmentation_source and data_segmentation" in caplog.text


def test_wrong_value_is_refused_before_anything_runs(project, sample):
    with pytest.raises(Exception, match="multiple of 16"):
        run(project, segmentation_source=str(sample), data_segmentation={"preparation": {"slice_size": 100}})
    assert not (project / "data").exists()


def test_store_that_does_not_match_the_network_is_refused(finished, tmp_path):
    slices, splits = (
        Store(finished / "data/03_primary/segmentation/slices.h5"),
        pd.read_csv(finished / "data/05_model_input/segmentation/splits.csv"),
    )
    experiment = ExperimentSettings(network="classic_unet", sizes={"in_channels": 3})
    with pytest.raises(
        ValueError,
        match=(
            r"the store has 4 modalities \(FLAIR, T1, T1ce, T2\), but in_channels is 3; leave in_channels out "
            r"of sizes"
        ),
    ):
        train_network(
            slices, splits, Checkpoints(tmp_path), experiment, SegmentationRecipe(), EngineSettings(), 1, None
        )


def test_trained_network_is_taken_from_its_checkpoint(finished, sample, caplog, monkeypatch):
    monkeypatch.setenv(RUN_ALL, "1")
    file = NetworkDataset(filepath=str(finished / "data/06_models/segmentation/classic_unet/network.safetensors"))
    before = file.load()
    with caplog.at_level(logging.INFO):
        run(finished, segmentation_source=str(sample))
    assert "trained already with these settings on these data" in caplog.text
    assert file.load().description == before.description
    assert all((value == before.members[0][name]).all() for name, value in file.load().members[0].items())
    assert len(list((finished / "data/06_models/segmentation/classic_unet/checkpoints").iterdir())) == 1


@pytest.mark.parametrize("name", ["brats-nifti", "brats2020-training-data"])
def test_real_scans_go_through_to_the_report(project, name):
    run(project, segmentation_source=str(real(name)), preparation={"workers": -1})
    report = (project / "data/08_reporting/segmentation/report.html").read_text()
    assert "SIMULATED" not in report
    splits = pd.read_csv(project / "data/05_model_input/segmentation/splits.csv")
    assert splits["patient"].is_unique
    if name == "brats-nifti":
        assert splits["split"].value_counts().to_dict() == {"train": 2, "test": 1, "validation": 1}
    else:
        assert len(splits) == 94


def test_attention_is_examined_on_test_patients(finished):
    folder = finished / "data/08_reporting/segmentation/attention_unet"
    summary = pd.read_csv(folder / "attention_summary.csv").set_index(["map", "metric"])
    gates = [f"gates.{k}" for k in range(4)]
    assert list(summary.index.unique("map")) == [
        *gates,
        *(f"input {modality}" for modality in ("FLAIR", "T1", "T1ce", "T2")),
    ]
    assert summary.xs("auc_tumour", level="metric")["mean"].between(0, 1).all()
    assert set(summary.xs("dice_loss_WT", level="metric").index) == set(gates)  # an input can't be excluded
    scores = pd.read_csv(folder / "attention_scores.csv").set_index(["map", "metric"])["value"]
    expected = scores["none", "dice_without_WT"] - scores["gates.1", "dice_without_WT"]
    assert summary.loc[("gates.1", "dice_loss_WT"), "mean"] == pytest.approx(expected.item())
    plain = pd.read_csv(folder / "patient_scores.csv").query("target == 'WT' and metric == 'dice'")["value"].item()
    assert scores["none", "dice_without_WT"].item() == pytest.approx(plain, abs=0.05)  # but for mirrored slices


ONE = [
    f"segmentation.classic_unet.{name}"
    for name in ("train_network", "predict_patients", "count_pixels", "score_patients", "summarise_scores")
]


def test_folds_answer_together_and_each_patient_is_predicted_by_the_one_that_has_not_seen_him(project, sample):
    settings = {
        "segmentation_source": str(sample),
        "data_segmentation": {"split": {"folds": 2}},
        "segmentation": {"folds": 2},
    }
    run(project, "data_engineering", **settings)
    run(project, node_names=ONE, **settings)
    data = project / "data"
    network = NetworkDataset(filepath=str(data / "06_models/segmentation/classic_unet/network.safetensors")).load()
    splits = pd.read_csv(data / "05_model_input/segmentation/splits.csv").set_index("patient")
    learning = splits[splits["split"] != "test"]
    assert len(network.members) == 2
    assert [set(patients) for patients in network.description["validation_patients"]] == [
        set(learning.index[learning["fold"] == k]) for k in (0, 1)
    ]
    scores = pd.read_csv(data / "08_reporting/segmentation/classic_unet/patient_scores.csv")
    assert set(scores.loc[scores["set"] == "cross-validation", "patient"]) == set(learning.index)
    assert set(scores.loc[scores["set"] == "test", "patient"]) == set(splits.index) - set(learning.index)
    assert set(pd.read_csv(data / "08_reporting/segmentation/classic_unet/summary.csv")["set"]) == {
        "test",
        "cross-validation",
    }
    # So does the stress test.
    node = "stress_test.classic_unet.stress_network"
    run(project, "stress_test", node_names=[node], stress_test={"corruptions": []}, **settings)
    stress = pd.read_csv(data / "08_reporting/stress_test/classic_unet.csv").query("corruption == 'none'")
    clean = scores[scores["metric"] == "dice"].set_index(["patient", "target"])["value"]
    assert stress.set_index(["patient", "target"])["dice"].to_dict() == pytest.approx(clean.to_dict(), abs=1e-6)


def test_folds_that_are_not_there_are_refused(finished, tmp_path):
    with pytest.raises(
        ValueError,
        match=(
            r"segmentation\.folds is 4, but patients are divided into . folds; set "
            r"data_segmentation\.split\.folds to 4 too"
        ),
    ):
        train(finished, tmp_path, folds=4)


def test_folds_on_several_machines_are_refused(finished, tmp_path):
    engine = EngineSettings(device="cpu", precision="fp32", nodes=2, rendezvous="localhost:1")
    with pytest.raises(
        ValueError, match=r"segmentation\.folds is 2 and training\.nodes 2, but a fold is trained on one machine"
    ):
        train(finished, tmp_path, folds=2, engine=engine)


def test_a_fold_without_a_patient_is_refused(finished, tmp_path):
    """Three patients learn, one is for testing: of five folds one at least is empty."""
    with pytest.raises(
        ValueError,
        match=(
            r"fold \d of 5 has no patient to validate with: \d are not for testing; set segmentation\.folds .* "
            r"to fewer"
        ),
    ):
        train(finished, tmp_path, folds=5)


def test_training_starts_from_given_weights(finished, tmp_path, caplog):
    given = finished / "data/06_models/segmentation/classic_unet/network.safetensors"
    still = SegmentationRecipe(epochs=1, epoch_steps=1, learning_rate=1e-12)
    before = read_network(given).members[0]
    network = train(finished, tmp_path, initial_weights=str(given), recipe=still)[0]
    weights = network.members[0]
    assert network.description["initialised_from"] == {"data_set": "BraTS 2020", "simulated": True, "scored": []}
    assert all((weights[name] - before[name]).abs().max() < 1e-6 for name in weights)
    with pytest.raises(ValueError, match=r"'n_filters': 4\}, but classic_unet is built with .*'n_filters': 8"):
        train(finished, tmp_path, initial_weights=str(given), sizes={"n_filters": 8})
    other = finished / "data/06_models/segmentation/improved_unet/network.safetensors"
    train(finished, tmp_path, initial_weights=str(other), recipe=still)
    assert "holds a improved_unet; classic_unet starts from random weights" in caplog.text


def test_weights_that_know_patients_to_be_scored_are_reported(finished, tmp_path, caplog):
    """The sets are drawn anew, and a patient whom the initial weights were trained on is tested."""
    given = finished / "data/06_models/segmentation/classic_unet/network.safetensors"
    splits = pd.read_csv(finished / "data/05_model_input/segmentation/splits.csv")
    tested, learned = (splits.index[splits["split"] == name][0] for name in ("test", "train"))
    splits.loc[[tested, learned], "split"] = ["train", "test"]
    known = splits.loc[learned, "patient"]
    network = train(
        finished,
        tmp_path,
        initial_weights=str(given),
        recipe=SegmentationRecipe(epochs=1, epoch_steps=1),
        splits=splits,
    )[0]
    assert network.description["initialised_from"]["scored"] == [known]
    assert network.description["patients"] == sorted(splits["patient"]), "those of before are known too"
    assert f"the weights to start from know 1 of the 1 patients to be scored ({known})" in caplog.text
    about = Store(finished / "data/03_primary/segmentation/slices.h5").description
    assert (
        f"ClassicUNet started from weights that were trained on patients scored here ({known}): its scores flatter."
    ) in protocol(about, [network])
    silent = replace(
        network,
        description=network.description | {"initialised_from": {"data_set": "x", "simulated": True, "scored": None}},
    )
    assert "whose file doesn't list their training patients" in protocol(about, [silent])
    assert silent.patients is None, "nor does it know whom those before it knew"
    phantoms = replace(silent, description=silent.description | {"simulated": False})
    assert phantoms.patients == set(network.description["patients"]), "phantoms are nobody"


def test_predictions_of_slices_that_have_been_replaced_are_refused(finished, project):
    """As when own scans are prepared after the sample was predicted."""
    shutil.copytree(finished / "data", project / "data", dirs_exist_ok=True)
    with h5py.File(project / "data/03_primary/segmentation/slices.h5", "a") as file:
        file.attrs["description"] = json.dumps(json.loads(file.attrs["description"]) | {"fingerprint": "another"})
    for node in ("segmentation.classic_unet.count_pixels", "segmentation.classic_unet.draw_results"):
        with pytest.raises(ValueError, match=r"predictions\.h5 was not made from the rows that .*slices\.h5 holds now"):
            run(project, node_names=[node])
    with pytest.raises(ValueError, match="run what makes it again"):
        run(project, "survival_predicted", node_names=["survival.classic_unet.measure_predictions"])


@pytest.mark.parametrize("node", ["predict_patients", "examine_attention"])
def test_a_network_that_learned_from_a_test_patient_is_refused(finished, project, node):
    """As when the sets are drawn anew and only what comes after training is run."""
    shutil.copytree(finished / "data", project / "data", dirs_exist_ok=True)
    path = project / "data/05_model_input/segmentation/splits.csv"
    splits = pd.read_csv(path)
    learned = splits.loc[splits["split"] == "train", "patient"].iloc[0]
    splits.loc[splits["patient"] == learned, "split"] = "test"
    splits.to_csv(path, index=False)
    with pytest.raises(
        ValueError,
        match=rf"attention_unet was trained on 1 of the 2 test patients \({learned}\): the sets were drawn anew",
    ):
        run(project, node_names=[f"segmentation.attention_unet.{node}"])


def test_a_network_of_other_slices_is_refused(finished):
    network = read_network(finished / "data/06_models/segmentation/classic_unet/network.safetensors")
    store, splits = (
        Store(finished / "data/03_primary/segmentation/slices.h5"),
        pd.read_csv(finished / "data/05_model_input/segmentation/splits.csv"),
    )
    require_unseen(network, store, splits)
    turned = replace(network, description=network.description | {"modalities": network.description["modalities"][::-1]})
    with pytest.raises(
        ValueError, match=r"classic_unet was trained on slices whose modalities was \['T2', .* now; train it again"
    ):
        require_unseen(turned, store, splits)
    known = splits.loc[splits["split"] == "test", "patient"].tolist()
    told = {"patients": known, "initialised_from": {"data_set": "x", "simulated": True, "scored": known}}
    # Its scores are said to flatter.
    require_unseen(replace(network, description=network.description | told), store, splits)


def test_maps_of_slices_that_have_been_replaced_are_refused(finished, project):
    shutil.copytree(finished / "data", project / "data", dirs_exist_ok=True)
    with h5py.File(project / "data/03_primary/segmentation/slices.h5", "a") as file:
        file.attrs["description"] = json.dumps(json.loads(file.attrs["description"]) | {"fingerprint": "another"})
    with pytest.raises(ValueError, match=r"attention_maps\.h5 was not made from the rows that"):
        run(project, node_names=["segmentation.attention_unet.draw_attention"])


def test_two_experiments_on_one_network_are_compared(finished, project):
    """Their names tell them apart in tables, reports and cards."""
    shutil.copytree(finished / "data", project / "data", dirs_exist_ok=True)
    nodes = [node.name for node in register_pipelines()["segmentation"].nodes]
    compared = [name for name in nodes if name.startswith("segmentation.") and name.count(".") == 1]
    again = [name for name in nodes if name.startswith("segmentation.improved_unet.")] + compared
    run(
        project,
        node_names=again,
        segmentation={"improved_unet": {"network": "classic_unet", "sizes": {"n_filters": 6}, "epochs": 1}},
    )
    folder = project / "data/08_reporting/segmentation"
    comparison = pd.read_csv(folder / "comparison.csv")
    counts = comparison.groupby("network", sort=False)["parameters"].first()
    assert list(counts.index) == networks_of("segmentation")
    assert counts["improved_unet"] == sum(p.numel() for p in build("classic_unet", n_filters=6).parameters())
    assert len(pd.read_csv(folder / "differences.csv")) == 4 * 3 * 5
    card = (folder / "model_card.md").read_text()
    assert {row[0]: row[3] for row in rows_of(card, "Networks")[1:]}[
        "ImprovedUNet"
    ] == "in_channels 4, out_channels 3, n_filters 6"
    assert ">ImprovedUNet</h2>" in (folder / "report.html").read_text()


@pytest.fixture
def tiny(monkeypatch):
    """A network whose size isn't a number of filters."""
    import torch

    class Tiny(torch.nn.Conv2d):
        def __init__(self, *, in_channels=4, out_channels=3, width=3):
            super().__init__(in_channels, out_channels, width, padding=width // 2)

    module = types.ModuleType("brain_tumor.networks.tiny", "One convolution.")
    module.Tiny = Tiny
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(NETWORKS, "tiny", ("segmentation", "Tiny"))


def test_a_network_without_filters_is_compared_too(finished, tiny):
    folder, names = finished / "data", [name for name in networks_of("segmentation") if name != "tiny"]
    networks = {
        f"{name}.network": read_network(folder / f"06_models/segmentation/{name}/network.safetensors") for name in names
    }
    networks["classic_unet.network"] = replace(networks["classic_unet.network"], name="tiny", sizes={"width": 5})
    tables = {
        f"{name}.{table}": pd.read_csv(folder / f"08_reporting/segmentation/{name}/{table}.csv")
        for table in ("summary", "patient_scores", "cost")
        for name in names
    }
    slices = Store(folder / "03_primary/segmentation/slices.h5")
    *_, figures = compare_networks(slices, **tables, **networks)
    (axes,) = figures["3_parameters"].axes
    labels = [line.get_label() for line in axes.lines]
    assert labels == ["ImprovedUNet", "AttentionUNet", "ResidualAttentionUNet"]
    alone = {name: entry for name, entry in (networks | tables).items() if name.startswith("classic_unet.")}
    *_, figures = compare_networks(slices, **alone)
    assert list(figures) == ["1_targets", "2_costs", "4_risk_coverage"]


def test_answers_of_weights_that_have_been_replaced_are_refused(finished, project):
    shutil.copytree(finished / "data", project / "data", dirs_exist_ok=True)
    path = project / "data/06_models/segmentation/attention_unet/network.safetensors"
    network = read_network(path)
    write_network(path, replace(network, members=({name: value * 0.5 for name, value in network.members[0].items()},)))
    for node, store in (("draw_results", "predictions"), ("draw_attention", "attention_maps")):
        with pytest.raises(
            ValueError,
            match=rf"{store}\.h5 was not made by the weights that attention_unet has now; run what makes it again",
        ):
            run(project, node_names=[f"segmentation.attention_unet.{node}"])


def test_networks_tested_on_different_patients_are_not_compared(finished):
    folder, slices = (
        finished / "data/08_reporting/segmentation",
        Store(finished / "data/03_primary/segmentation/slices.h5"),
    )
    names = networks_of("segmentation")[:2]
    tables = {
        f"{name}.{table}": pd.read_csv(folder / name / f"{table}.csv")
        for table in ("summary", "patient_scores", "cost")
        for name in names
    }
    compare_networks(slices, **tables)
    tables[f"{names[1]}.patient_scores"]["patient"] = "another"
    with pytest.raises(ValueError, match=f"{names[0]} and {names[1]} were tested on different patients"):
        compare_networks(slices, **tables)


def test_other_settings_have_checkpoints_of_their_own(finished, tmp_path):
    short, splits = (
        SegmentationRecipe(epochs=1, epoch_steps=1),
        pd.read_csv(finished / "data/05_model_input/segmentation/splits.csv"),
    )
    other = splits.assign(split=splits["split"].replace({"train": "validation", "validation": "train"}))
    cases = [
        {},
        {"recipe": short.model_copy(update={"learning_rate": 2e-3})},
        {"sizes": {"n_filters": 6}},
        {"splits": other},
    ]
    cases.append({"engine": EngineSettings(device="cpu", precision="fp32", seed=1)})
    for case in [*cases, {}]:
        train(finished, tmp_path, **{"recipe": short} | case)
    assert len(list((tmp_path / "classic_unet/checkpoints").iterdir())) == len(cases)


def test_nobody_to_validate_with_is_said(finished, tmp_path):
    splits = pd.read_csv(finished / "data/05_model_input/segmentation/splits.csv")
    with pytest.raises(
        ValueError, match=r"no patient is left to validate with; set data_segmentation\.split\.validation higher"
    ):
        train(finished, tmp_path, splits=splits.replace({"split": {"validation": "train"}}))


def test_other_weights_in_the_same_file_are_trained_from_anew(finished, tmp_path):
    given = shutil.copy(
        finished / "data/06_models/segmentation/classic_unet/network.safetensors", tmp_path / "start.safetensors"
    )
    still = SegmentationRecipe(epochs=1, epoch_steps=1, learning_rate=1e-12)
    before = train(finished, tmp_path, initial_weights=str(given), recipe=still)[0]
    other = replace(before, members=({name: value * 0.5 for name, value in before.members[0].items()},))
    write_network(given, other)
    after = train(finished, tmp_path, initial_weights=str(given), recipe=still)[0]
    assert all((after.members[0][name] - other.members[0][name]).abs().max() < 1e-6 for name in other.members[0])


def test_patients_without_tumour_are_nothing_to_learn_from(finished, tmp_path):
    with h5py.File(shutil.copy(finished / "data/03_primary/segmentation/slices.h5", tmp_path), "a") as file:
        file["tumour_pixels"][:] = 0
    with pytest.raises(ValueError, match="none of the 15 slices to train on shows tumour"):
        train(finished, tmp_path, slices=tmp_path / "slices.h5")


def test_loss_and_optimiser_of_libraries_train(finished, tmp_path):
    recipe = SegmentationRecipe(
        epochs=3,
        batch_size=4,
        loss="monai.losses.DiceFocalLoss",
        loss_arguments={"sigmoid": True, "batch": True},
        optimiser="torch.optim.NAdam",
        deep_supervision=0.3,
    )
    network, log, _ = train(finished, tmp_path, recipe=recipe)
    assert network.description["recipe"]["loss"] == "monai.losses.DiceFocalLoss"
    losses = pd.DataFrame(log)["validation_loss"]
    assert np.isfinite(losses).all()
    assert losses.iloc[-1] < losses.iloc[0]


def test_training_starts_at_the_prior_of_the_recipe(finished, tmp_path):
    # So slowly that the last weights are the first.
    slow = SegmentationRecipe(epochs=1, epoch_steps=1, learning_rate=1e-9, checkpoint="last")
    biases = {}
    for prior in (None, 0.01):
        recipe = slow.model_copy(update={"output_prior": prior})
        network = train(finished, tmp_path / str(prior), recipe=recipe)[0]
        biases[prior] = network.members[0]["head.bias"]
    torch.testing.assert_close(biases[None].sigmoid(), torch.full((3,), 0.5), atol=1e-3, rtol=0)
    torch.testing.assert_close(biases[0.01].sigmoid(), torch.full((3,), 0.01), atol=1e-3, rtol=0)


def train(
    finished, folder, *, recipe=None, sizes=None, folds=1, initial_weights=None, slices=None, splits=None, engine=None
):
    store = Store(slices or finished / "data/03_primary/segmentation/slices.h5")
    splits = pd.read_csv(finished / "data/05_model_input/segmentation/splits.csv") if splits is None else splits
    experiment = ExperimentSettings(network="classic_unet", sizes=sizes or {"n_filters": 4})
    engine = engine or EngineSettings(device="cpu", precision="fp32")
    return train_network(
        store,
        splits,
        Checkpoints(folder / "classic_unet/checkpoints"),
        experiment,
        recipe or SegmentationRecipe(),
        engine,
        folds,
        initial_weights,
    )


def test_registered_pipelines():
    pipelines = register_pipelines()
    assert isinstance(pipelines["segmentation"], Pipeline)
    assert {"data_engineering", "segmentation", "all"} <= set(pipelines)
    assert pipelines["__default__"].nodes == pipelines["segmentation"].nodes
    trained = pipelines["all"].only_nodes_with_tags("training").nodes
    assert {node.name.rpartition(".")[2] for node in trained} == {"train_network"}
    assert len(trained) == len(networks_of("segmentation")) + len(networks_of("classification"))
    for network in (*networks_of("segmentation"), *networks_of("classification")):
        own = {node for node in pipelines["all"].nodes if network in (node.namespace or "").split(".")}
        assert own == set(pipelines["all"].only_nodes_with_tags(network).nodes)
    assert {node.namespace.split(".")[0] for node in pipelines["segmentation"].nodes} == {
        "data_segmentation",
        "segmentation",
    }


def test_stress_test_compares_each_corruption_with_the_slices_as_they_are(finished):
    run(finished, "stress_test", stress_test={"corruptions": ["noise", "thick slices"], "severities": [1.0]})
    reports = finished / "data/08_reporting"
    table = pd.read_csv(reports / "stress_test/stress_test.csv")
    assert set(table["network"]) == set(networks_of("segmentation"))
    kinds = ["none", "noise", "thick slices", *(f"without {name}" for name in ("FLAIR", "T1", "T1ce", "T2"))]
    assert list(table["corruption"].unique()) == kinds
    for network, rows in table.groupby("network"):
        scores = pd.read_csv(reports / f"segmentation/{network}/patient_scores.csv").query("metric == 'dice'")
        clean = rows[rows["corruption"] == "none"].set_index("target")["dice"]
        # Without a corruption they are the scores of the test patients.
        assert clean.to_dict() == pytest.approx(scores.groupby("target")["value"].mean().to_dict(), abs=1e-3)
    unchanged = table["corruption"] == "none"
    assert (table.loc[unchanged, "change"] == 0).all()
    assert (table.loc[~unchanged, "change"] != 0).any()
    page = (reports / "stress_test/report.html").read_text(encoding="utf-8")
    assert "SIMULATED" in page
    assert "noise at severity 1" in page
