"""The file that a command's figures are written to."""

from __future__ import annotations

import pytest

from deblurgan.benchmarks.result_file import without_folders


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("edge-int8", "edge-int8"),
        ("a/b.json", "b.json"),
        ("photos/", "photos"),
        ("--json=/home/me/b.json", "--json=b.json"),
        ("combined:/home/me/set", "set"),
        ("secret:a/set", "set"),
        ("--pairs=secret:a/set", "--pairs=set"),
        ("https://example.org/a/b.png", "b.png"),
        ("--size=64x48", "--size=64x48"),
    ],
)
def test_where_files_are_kept_is_left_out_and_no_more(word: str, said: str) -> None:
    assert without_folders(word) == said
