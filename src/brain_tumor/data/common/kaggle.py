"""Data sets from Kaggle, with Kaggle's own client.

Not by `kagglehub.dataset_download`: it unpacks whatever an archive holds and doesn't look for room on the disk
first. What is imported instead isn't promised by kagglehub, so pyproject.toml bounds its version, and
`tests/data/common/test_kaggle.py` runs it against a server.
"""

import logging
import shutil
import time
from pathlib import Path

from brain_tumor.data.common.archive import expanded_size, unpack
from brain_tumor.data.common.atomic import replacing

logger = logging.getLogger(__name__)

ATTEMPTS = 6
SECONDS_BETWEEN = 5.0
ROOM_FOR_UNPACKING = 3
"""Free space asked for before the download: this many times the archive.

What it really takes is checked once it is here.
"""

NO_CREDENTIALS = """Kaggle needs to know who downloads {slug}:
1. make a token on kaggle.com under Settings > API, and put it into KAGGLE_API_TOKEN or ~/.kaggle/access_token;
2. run again. Or download {url} by hand, unpack it, and run with `--params {parameter}=FOLDER`."""


def download(slug: str, folder: Path, parameter: str) -> None:
    """Fetch a data set and unpack it into a folder that isn't there yet.

    An interrupted download goes on where it stopped.

    Args:
        slug: `owner/name`.
        folder: appears once everything in it is complete, with its manifest.
        parameter: the run parameter that takes a folder downloaded by hand; for messages.

    Raises:
        PermissionError: without credentials.
        OSError: if the disk has too little room.
        ConnectionError: if the connection breaks too often; what has come is kept.
        ValueError: if the archive is damaged or unsafe.
    """
    archive = folder.with_name(f"{folder.name}.zip")
    archive.parent.mkdir(parents=True, exist_ok=True)
    _fetch(slug, archive, parameter)
    _require_room(archive.parent, expanded_size(archive), f"unpacking {archive.name}")
    with replacing(folder) as draft:
        manifest = unpack(archive, draft)
    archive.unlink()
    logger.info("%s: %s files, %s bytes in %s", slug, f"{len(manifest):,}", f"{manifest['bytes'].sum():,}", folder)


def _fetch(slug: str, archive: Path, parameter: str) -> None:
    # Here, because they are an extra that only downloads need.
    try:
        import requests
        from kagglehub.clients import build_kaggle_client, download_file
        from kagglehub.config import get_kaggle_credentials
        from kagglehub.exceptions import DataCorruptionError
        from kagglehub.handle import DatasetHandle
        from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest
    except ImportError as error:
        raise ImportError("downloading from Kaggle needs its client: pip install 'brain-tumor-mri[kaggle]'") from error

    owner, name = slug.split("/")
    handle = DatasetHandle(owner, name)
    if not get_kaggle_credentials():
        raise PermissionError(
            NO_CREDENTIALS.format(slug=slug, url=f"https://www.kaggle.com/datasets/{slug}", parameter=parameter)
        )
    request = ApiDownloadDatasetRequest()
    request.owner_slug, request.dataset_slug = owner, name
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with build_kaggle_client() as client:
                response = client.datasets.dataset_api_client.download_dataset(request)
                # What an earlier attempt has fetched is on the disk already.
                have = archive.stat().st_size if archive.is_file() else 0
                size = int(response.headers.get("Content-Length", 0))
                _require_room(archive.parent, ROOM_FOR_UNPACKING * size - have, f"{slug} ({size:,} bytes packed)")
                download_file(response, str(archive), handle)
                return
        except requests.HTTPError as error:
            # 429 is too many requests, 500 and more a trouble of the server: both pass.
            status = 0 if error.response is None else error.response.status_code
            if status != 429 and status < 500:
                raise ConnectionError(
                    f"Kaggle refuses {slug}: {error}; is the token valid, and are the terms of the data set accepted?"
                ) from error
            logger.warning("%s: the server can't answer now (attempt %d of %d): %s", slug, attempt, ATTEMPTS, error)
        except (
            requests.ConnectionError,
            requests.exceptions.ChunkedEncodingError,
            requests.Timeout,
            DataCorruptionError,
        ) as error:
            have = archive.stat().st_size if archive.is_file() else 0
            logger.warning(
                "%s: the connection broke at %s bytes (attempt %d of %d): %s",
                slug,
                f"{have:,}",
                attempt,
                ATTEMPTS,
                error,
            )
        if attempt < ATTEMPTS:
            time.sleep(SECONDS_BETWEEN)
    raise ConnectionError(
        f"{slug} could not be downloaded in {ATTEMPTS} attempts; what has come is kept in {archive}, run again to go on"
    )


def _require_room(folder: Path, needed: int, what: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"{what} needs {needed:,} bytes in {folder}, {free:,} are free; make room, or choose another "
            "place in conf/full/catalog.yml"
        )
