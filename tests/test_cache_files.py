import json

import pytest

from cache.files import atomic_path, sha256_file, write_json


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    final = tmp_path / "data.bin"
    with atomic_path(final) as temporary:
        temporary.write_bytes(b"abc")
        assert not final.exists()
    assert sha256_file(final).startswith("ba7816bf8f01cfea414140de5dae2223")

    def fail():
        with atomic_path(final) as temporary:
            temporary.write_bytes(b"new")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        fail()
    assert final.read_bytes() == b"abc"
    assert list(tmp_path.iterdir()) == [final]


def test_json_has_the_same_bytes_whatever_the_order_of_its_keys(tmp_path):
    write_json(tmp_path / "a.json", {"x": 1, "ä": [2]})
    write_json(tmp_path / "b.json", {"ä": [2], "x": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"x": 1, "ä": [2]}
