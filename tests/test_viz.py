"""`make viz-build` after a tiny run of one network, in a browser."""

import json
import os
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from browser import open_browser
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from support import ROOT, copy_project, run

from brain_tumor.pipeline_registry import register_pipelines
from brain_tumor.project.cluster import split_pipeline

LAYERS = ["01_raw", "02_intermediate", "03_primary", "05_model_input", "06_models", "07_model_output", "08_reporting"]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory, sample):
    """The folder of the site; all networks but one haven't been trained."""
    if shutil.which("make") is None:
        pytest.skip("there is no make here")
    project = copy_project(tmp_path_factory.mktemp("project"))
    bootstrap_project(project)
    before, experiments, _ = split_pipeline("segmentation")
    run(project, node_names=[*before, *experiments["segmentation.classic_unet"]], segmentation_source=str(sample))
    make = ["make", "-f", ROOT / "Makefile", "-o", ".venv/installed", "viz-build", f"BIN={Path(sys.executable).parent}"]
    result = subprocess.run(
        make, cwd=project, env=os.environ | {"KEDRO_ENV": "test"}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return project / "build"


@pytest.fixture(scope="module")
def graph(site):
    return json.loads((site / "api/main").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def previews(site, graph):
    """What is shown of each entry."""
    names = {node["id"]: node["name"] for node in graph["nodes"] if node["type"] == "data"}
    return {name: json.loads((site / "api/nodes" / key).read_text(encoding="utf-8")) for key, name in names.items()}


def test_every_entry_has_a_layer_and_layers_follow_each_other(graph):
    assert graph["layers"] == LAYERS
    assert {node["name"] for node in graph["nodes"] if node["type"] == "data" and not node["layer"]} == set()


@pytest.mark.parametrize("name", sorted(register_pipelines()))
def test_layers_only_lead_on(tmp_path, name):
    project = copy_project(tmp_path)
    bootstrap_project(project)
    with KedroSession.create(project, env="test") as session:
        catalog = session.load_context().catalog
        for node in register_pipelines()[name].nodes:
            before, after = (
                [
                    catalog[entry].metadata["kedro-viz"]["layer"]
                    for entry in entries
                    if entry in catalog and not entry.startswith("params:")
                ]
                for entries in (node.inputs, node.outputs)
            )
            assert max(before, default="") <= min(after, default="9"), node.name


def test_what_opens_first_can_be_read(graph):
    """Parameters are hidden until somebody asks for them."""
    first = graph["modular_pipelines"]["__root__"]["children"]
    parameters = {node["id"] for node in graph["nodes"] if node["type"] == "parameters"}
    assert 10 < len([child for child in first if child["id"] not in parameters]) < 30
    assert {"training", "data_engineering", "classic_unet"} <= {tag["id"] for tag in graph["tags"]}


def test_every_entry_can_be_previewed(previews):
    assert {entry["preview_type"] for entry in previews.values()} == {"TablePreview", "ImagePreview", "HTMLPreview"}


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        ("slices", "ImagePreview"),
        ("splits", "TablePreview"),
        ("data_report", "HTMLPreview"),
        ("data_sheet", "HTMLPreview"),
        ("data_figures", "ImagePreview"),
        ("classic_unet.network", "TablePreview"),
        ("classic_unet.checkpoints", "TablePreview"),
        ("classic_unet.predictions", "ImagePreview"),
        ("classic_unet.history", "ImagePreview"),
        ("classic_unet.figures", "ImagePreview"),
        ("classic_unet.summary", "TablePreview"),
    ],
)
def test_what_is_written_is_shown(previews, entry, kind):
    shown = previews[f"segmentation.{entry}"]
    assert shown["preview_type"] == kind
    assert shown["preview"]


def test_what_is_not_written_has_no_preview(previews):
    assert {
        previews[f"segmentation.improved_unet.{entry}"]["preview"]
        for entry in ("network", "predictions", "figures", "summary")
    } == {None}


def test_graph_and_previews_open_in_a_browser_without_an_error(site, graph, tmp_path):
    ids = {node["name"]: node["id"] for node in graph["nodes"]}
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever).start()
    try:
        with open_browser(tmp_path / "profile") as page:
            address = f"http://127.0.0.1:{server.server_port}/"
            page.open(address)
            page.wait_for("document.querySelectorAll('.pipeline-node').length > 10")
            boxes = page.evaluate(
                "[...document.querySelectorAll('.pipeline-node--modularPipeline')].map(node => node.textContent).sort()"
            )
            assert boxes == ["data_segmentation", "segmentation"]
            for entry, shown in (
                ("slices", "img.pipeline-metadata__plot-image"),
                ("splits", ".preview-table"),
                ("data_sheet", ".html-renderer h1"),
                ("data_report", ".html-renderer h1"),
            ):
                open_entry(page, f"segmentation.{entry}", ids)
                page.wait_for(f"document.querySelector('.pipeline-metadata {shown}')")
            assert (
                page.evaluate("document.querySelector('.html-renderer h1').innerText") == "Data: BraTS 2020 (SIMULATED)"
            )
            open_entry(page, "segmentation.report", ids)  # not written
            assert page.evaluate("document.querySelectorAll('.pipeline-metadata__link').length") == 0
            assert page.evaluate("document.querySelectorAll('.pipeline-node').length") > 10
            assert page.errors(address) == []
    finally:
        server.shutdown()
        server.server_close()


def open_entry(page, name, ids):
    """Click it, and wait for its panel."""
    page.evaluate(
        f"document.querySelector('.pipeline-node[data-id=\"{ids[name]}\"]').dispatchEvent(new "
        f"MouseEvent('click', {{bubbles: true}}))"
    )
    page.wait_for(f"document.querySelector('.pipeline-metadata__title')?.innerText.trim() === '{name}'")
