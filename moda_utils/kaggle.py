"""Photos from Kaggle, with errors that a reader can act on."""

import os
from pathlib import Path

from requests.exceptions import ChunkedEncodingError, RequestException


def download(handle: str) -> Path:
    """Fetch a Kaggle dataset ("OWNER/SLUG/versions/N") into kagglehub's cache, or find it there.

    A version that is in the cache needs no network, and a cut download goes on where it stopped.

    Raises:
        ValueError: not such a handle.
        RuntimeError: one sentence that says what happened and what to do.
    """
    # Colab's own mount can wait forever for a folder that never appears.
    os.environ.setdefault("DISABLE_COLAB_CACHE", "true")
    os.environ.setdefault("KAGGLEHUB_VERBOSITY", "error")
    import kagglehub
    from kagglehub.cache import get_cached_archive_path
    from kagglehub.exceptions import DataCorruptionError
    from kagglehub.handle import parse_dataset_handle

    archive = Path(get_cached_archive_path(parse_dataset_handle(handle)))
    try:
        return Path(kagglehub.dataset_download(handle))
    except DataCorruptionError as error:
        cause, problem = error, "The photos arrived damaged and were deleted: run the cell again"
    except OSError as error:  # those of requests are such, too
        cause, problem = error, _explain(error, handle)
    except Exception as error:
        # zipfile, tarfile and zlib each have their own error for an archive that is none. It is
        # deleted, or the next try would find it "complete" and fail in the same way.
        archive.unlink(missing_ok=True)
        what = f"Kaggle's archive can't be unpacked ({error}) and was deleted"
        cause, problem = error, f"{what}: run the cell again"
    raise RuntimeError(f"{problem}. MODA_PROFILE=mini works now, without a network.") from cause


def _explain(error: OSError, handle: str) -> str:
    if not isinstance(error, RequestException):
        return f"The photos can't be stored ({error}): free some space or set KAGGLEHUB_CACHE"
    if isinstance(error, ChunkedEncodingError):
        return "The download was cut: run the cell again, it goes on where it stopped"
    status = getattr(error.response, "status_code", None)
    if status is None:
        return "Kaggle can't be reached: check the network and run the cell again"
    if status == 404:
        return f"Kaggle has no dataset {handle} (HTTP 404): point MODA_DATA_DIR at a copy of it"
    if status not in (401, 403):
        return f"Kaggle can't serve the photos now (HTTP {status}): try again in some minutes"
    return (
        f"Kaggle refused the download (HTTP {status}): these photos need no account, so remove a "
        "wrong KAGGLE_API_TOKEN or kaggle.json, or accept the terms on the dataset's page"
    )
