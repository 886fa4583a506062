"""Files that are none of the authors': the reason is ours, not a number of torch's."""

from __future__ import annotations

from pathlib import Path

import pytest

from barlowctl.errors import UserError
from barlowctl.exports.official import read_official


@pytest.mark.parametrize("content", [b"hello\n", b"\xe2\x01\x7fweights", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_torch_did_not_write_is_called_so(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "resnet50.pth"
    file.write_bytes(content)
    with pytest.raises(UserError, match="it is no file of torch") as raised:
        read_official(file)
    assert "resnet50.pth" in str(raised.value)


def test_a_folder_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder, not a file"):
        read_official(tmp_path)
