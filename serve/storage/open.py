"""Opens the storage that ``serve.data_dir`` names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from actors.errors import ConfigError
from cluster.storage import locations
from serve.settings import ServeSettings
from serve.storage.bucket import Bucket, BucketError
from serve.storage.bucket_files import BucketFiles, own_folder
from serve.storage.files import JobFiles
from serve.storage.folder_files import FolderFiles


@contextmanager
def open_files(settings: ServeSettings) -> Iterator[JobFiles]:
    """Raises ConfigError if ``data_dir`` cannot be used."""
    storage = settings.storage
    if not locations.is_url(settings.data_dir):
        yield FolderFiles(Path(settings.data_dir).absolute(), storage.min_free_bytes)
        return
    bucket = Bucket(settings.data_dir, timeout_s=storage.timeout_s, patience_s=storage.patience_s)
    try:
        bucket.check()
    except BucketError as error:
        raise ConfigError(
            f"serve.data_dir must be a folder, or a URL to read from and write to; {bucket.url}: {error.__cause__}"
        ) from error
    with own_folder(storage.scratch_dir) as root:
        yield BucketFiles(root, bucket, storage.scratch_max_bytes, storage.min_free_bytes)
