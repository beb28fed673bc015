"""The real client against a server on this machine that speaks Kaggle's protocol."""

import base64
import hashlib
import io
import json
import stat
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pytest

from brain_tumor.data.common import archive, kaggle
from brain_tumor.data.common.archive import MANIFEST, check_manifest, expanded_size, unpack
from brain_tumor.datasets import KaggleDataset

pytest.importorskip("kagglehub", reason="the extra `kaggle` is not installed")
from kagglesdk import kaggle_env

SLUG = "awsaf49/brats2020-training-data"


def pack(members, **attributes):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            member = zipfile.ZipInfo(name)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = attributes.get("mode", 0o644) << 16
            file.writestr(member, data)
    return content.getvalue()


class Kaggle(BaseHTTPRequestHandler):
    """POST to the API answers with a redirect to the storage, whose first GET is cut in the middle."""

    content = b""
    cuts: int = 1
    busy: int = 0
    log: list = []  # noqa: RUF012

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).log.append((self.path, body, self.headers.get("Authorization")))
        if type(self).busy:
            type(self).busy -= 1
            self.send_error(503)
            return
        self.send_response(302)
        self.send_header("Location", "/storage/archive.zip?signature=1")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        type(self).log.append((self.path, start))
        self.send_response(206 if start else 200)
        part = self.content[start:]
        self.send_header("Content-Type", "application/zip")
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header(
            "x-goog-hash", "md5=" + base64.b64encode(hashlib.md5(self.content, usedforsecurity=False).digest()).decode()
        )
        self.end_headers()
        if type(self).cuts:
            type(self).cuts -= 1
            self.wfile.write(part[: len(part) // 2])
            self.wfile.flush()
            self.connection.close()
        else:
            self.wfile.write(part)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    content = {
        f"BraTS2020_training_data/content/data/volume_1_slice_{k}.h5": np.random.default_rng(k).bytes(300_000)
        for k in range(9)
    }
    handler = type("Handler", (Kaggle,), {"content": pack(content), "cuts": 1, "log": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
        monkeypatch.setenv("KAGGLE_API_TOKEN", "a-token")
        monkeypatch.setitem(
            kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.LOCAL, f"http://127.0.0.1:{httpd.server_port}"
        )
        monkeypatch.setattr(kaggle, "SECONDS_BETWEEN", 0)
        yield handler, content
        httpd.shutdown()


pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def test_download_goes_on_after_a_cut_connection(server, tmp_path, caplog):
    handler, content = server
    folder = tmp_path / "raw" / "brats"
    kaggle.download(SLUG, folder, "segmentation_source")
    assert {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*.h5")} == content
    path, body, authorisation = handler.log[0]
    assert path == "/api/v1/datasets.DatasetApiService/DownloadDataset"
    assert (body["ownerSlug"], body["datasetSlug"]) == tuple(SLUG.split("/"))
    assert authorisation == "Bearer a-token"
    starts = [entry[1] for entry in handler.log if entry[0].startswith("/storage")]
    assert starts[-1] > 0.3 * len(handler.content)  # not from the beginning again
    assert "the connection broke at" in caplog.text
    assert sorted(f.name for f in folder.parent.iterdir()) == ["brats"]
    manifest = pd.read_csv(folder / MANIFEST)
    assert manifest["bytes"].tolist() == [300_000] * 9
    assert manifest["blake2b"][0] == hashlib.blake2b(content[manifest["file"][0]], digest_size=16).hexdigest()


def test_a_server_that_is_busy_is_asked_again(server, tmp_path, caplog):
    handler, content = server
    handler.busy, handler.cuts = 2, 0
    kaggle.download(SLUG, tmp_path / "brats", "segmentation_source")
    assert len(list((tmp_path / "brats").rglob("*.h5"))) == len(content)
    assert caplog.text.count("the server can't answer now") == 2


def test_what_came_is_kept_when_the_connection_never_holds(server, tmp_path, monkeypatch):
    handler, _ = server
    handler.cuts = 1000
    monkeypatch.setattr(kaggle, "ATTEMPTS", 2)
    with pytest.raises(ConnectionError, match=r"in 2 attempts; what has come is kept in .*brats\.zip, run again"):
        kaggle.download(SLUG, tmp_path / "brats", "segmentation_source")
    kept = (tmp_path / "brats.zip").stat().st_size
    assert kept > len(handler.content) / 4
    handler.cuts = 0
    kaggle.download(SLUG, tmp_path / "brats", "segmentation_source")
    assert handler.log[-1][1] == kept


def test_dataset_fetches_once_and_notices_what_went_missing(server, tmp_path):
    handler, _ = server
    dataset = KaggleDataset(filepath=str(tmp_path / "brats"), slug=SLUG, parameter="segmentation_source")
    folder = dataset.load()
    requests = len(handler.log)
    assert dataset.load() == folder
    assert len(handler.log) == requests
    next(folder.rglob("*slice_3.h5")).unlink()
    with pytest.raises(Exception, match=r"slice_3\.h5 is missing; delete .* and run again"):
        dataset.load()
    own = KaggleDataset(
        filepath=str(tmp_path / "other"), slug=SLUG, parameter="segmentation_source", instead=str(tmp_path)
    )
    assert own.load() == tmp_path


def test_without_credentials_it_says_what_to_do(tmp_path, monkeypatch):
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    with pytest.raises(PermissionError) as error:
        kaggle.download(SLUG, tmp_path / "brats", "segmentation_source")
    assert len(str(error.value).splitlines()) == 3
    assert f"https://www.kaggle.com/datasets/{SLUG}" in str(error.value)
    assert "--params segmentation_source=FOLDER" in str(error.value)


def test_without_room_nothing_is_fetched(server, tmp_path, monkeypatch):
    monkeypatch.setattr(kaggle.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(OSError, match="1,000 are free; make room"):
        kaggle.download(SLUG, tmp_path / "brats", "segmentation_source")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../out.h5", "/etc/out.h5", "a/../../out.h5", "C:/out.h5", "..\\out.h5"])
def test_members_outside_the_folder_are_refused(tmp_path, name):
    (tmp_path / "a.zip").write_bytes(pack({"fine.h5": b"1", name: b"2"}))
    with pytest.raises(ValueError, match="outside its folder"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_links_bombs_and_damage_are_refused(tmp_path, monkeypatch):
    file = tmp_path / "a.zip"
    file.write_bytes(pack({"link": b"/etc/passwd"}, mode=stat.S_IFLNK | 0o777))
    with pytest.raises(ValueError, match="holds a link"):
        expanded_size(file)
    file.write_bytes(pack({"zeros": bytes(10_000_000)}))
    with pytest.raises(ValueError, match="more than 50 times its size"):
        expanded_size(file)
    file.write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match="not a zip archive"):
        expanded_size(file)
    monkeypatch.setattr(archive, "BLOCK", 1000)
    content = bytearray(pack({"a.h5": np.random.default_rng(0).bytes(5000)}))
    content[2000] ^= 255
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged at a\.h5"):
        unpack(file, tmp_path / "out")
    text = pack({"a.csv": "".join(f"{k},{k * k},volume_{k}\n" for k in range(2000)).encode()})
    for place in range(60, len(text) - 200, 50):
        file.write_bytes(text[:place] + bytes([text[place] ^ 255]) + text[place + 1 :])
        with pytest.raises(ValueError, match=r"damaged at a\.csv"):
            unpack(file, tmp_path / "out")


def test_manifest_names_a_file_of_another_size(tmp_path):
    (tmp_path / "a.zip").write_bytes(pack({"x/a.h5": b"123", "x/b.h5": b"45"}))
    unpack(tmp_path / "a.zip", tmp_path / "out")
    check_manifest(tmp_path / "out")
    (tmp_path / "out/x/b.h5").write_bytes(b"456")
    with pytest.raises(ValueError, match=r"b\.h5 has 3 bytes, 2 were unpacked"):
        check_manifest(tmp_path / "out")
