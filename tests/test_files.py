"""Files are written whole or not at all, readable to whom the umask allows, and hashed by their bytes."""

import hashlib
import os
import stat

import pytest

from flsl_bench.files import atomic_path, atomic_write_text, sha256


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def umask():
    """A function that sets the umask for the length of a test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


class TestAtomicPath:
    def test_takes_the_place_of_the_old_file(self, tmp_path):
        path = tmp_path / "record.json"
        path.write_text("old")
        with atomic_path(path) as temporary:
            temporary.write_text("new")
            assert path.read_text() == "old"
        assert path.read_text() == "new"
        assert names(tmp_path) == ["record.json"]

    def test_temporary_file_lies_beside_the_target_and_is_hidden(self, tmp_path):
        with atomic_path(tmp_path / "record.json") as temporary:
            assert temporary.parent == tmp_path
            assert temporary.name.startswith(".record.json.")

    @pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
    def test_exception_leaves_the_old_file_and_no_temporary(self, tmp_path, kind):
        path = tmp_path / "record.json"
        path.write_text("old")
        with pytest.raises(kind), atomic_path(path) as temporary:
            temporary.write_text("half")
            raise kind
        assert path.read_text() == "old"
        assert names(tmp_path) == ["record.json"]

    def test_exception_leaves_nothing_where_nothing_was(self, tmp_path):
        with pytest.raises(ValueError, match="stop"), atomic_path(tmp_path / "record.json"):
            raise ValueError("stop")
        assert names(tmp_path) == []

    def test_target_that_is_a_folder_is_left_as_it_is(self, tmp_path):
        (tmp_path / "results").mkdir()
        with pytest.raises(OSError), atomic_path(tmp_path / "results") as temporary:
            temporary.write_text("new")
        assert (tmp_path / "results").is_dir()
        assert names(tmp_path) == ["results"]

    def test_folders_are_made(self, tmp_path):
        with atomic_path(tmp_path / "a/b/record.json") as temporary:
            temporary.write_text("new")
        assert (tmp_path / "a/b/record.json").read_text() == "new"

    @pytest.mark.parametrize(("mask", "permissions"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
    def test_permissions_follow_the_umask(self, tmp_path, umask, mask, permissions):
        umask(mask)
        atomic_write_text(tmp_path / "record.json", "{}")
        assert stat.S_IMODE((tmp_path / "record.json").stat().st_mode) == permissions
        assert umask(mask) == mask


def test_text_is_written_as_utf8(tmp_path):
    atomic_write_text(tmp_path / "table.md", "J&F – 63,4 %\n")
    assert (tmp_path / "table.md").read_bytes() == "J&F – 63,4 %\n".encode()


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_sha256_equals_hashlibs(tmp_path, size):
    content = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "weights").write_bytes(content[:size])
    assert sha256(tmp_path / "weights") == hashlib.sha256(content[:size]).hexdigest()
