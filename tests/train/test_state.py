from __future__ import annotations

from pathlib import Path

import pytest

from deblurgan.runtime import DeblurError
from deblurgan.train.recipe import load_recipe
from deblurgan.train.state import Origin, check_origin, read_state


def test_a_run_begun_before_a_setting_existed_is_the_same_run(tmp_path: Path) -> None:
    now = Origin(load_recipe("paper"))
    before = now.document()
    del before["recipe"]["generator"]["alignment"]
    check_origin(tmp_path, before, now)
    with pytest.raises(DeblurError, match=r'generator.alignment is "tensorflow", was "centre"'):
        check_origin(
            tmp_path, before, Origin(load_recipe("paper", ["generator.alignment=tensorflow"]))
        )


def test_a_state_that_cannot_be_read_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(DeblurError, match="found is a directory"):
        read_state(tmp_path)
