import datasets
import pytest


@pytest.fixture(autouse=True)
def dataset_cache(tmp_path_factory, monkeypatch):
    """A cache of its own for each test, so that none sees another's or the user's."""
    path = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", path)
    return path


@pytest.fixture
def write(tmp_path):
    """Writes a file of text (as UTF-8, line ends as they are) or bytes and returns its path."""

    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return str(path)

    return write
