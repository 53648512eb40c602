"""Which exported generators can work in tiles, read off the files themselves."""

from __future__ import annotations

from deblurgan.export.onnx_export import ExportReport
from deblurgan.runtime.tiling.whole_picture import find_whole_picture_operators
from deblurgan.train.checkpoint import Checkpoint

Exported = tuple[Checkpoint, ExportReport]


def test_edge_and_batch_norm_can(
    edge_fp32: Exported, edge_int8: Exported, batch_fp16_frozen: Exported
) -> None:
    for _, report in (edge_fp32, edge_int8, batch_fp16_frozen):
        assert find_whole_picture_operators(report.path) == []


def test_instance_norm_cannot(
    instance_fp32: Exported, instance_fp16: Exported, instance_int8: Exported
) -> None:
    for _, report in (instance_fp32, instance_fp16, instance_int8):
        assert find_whole_picture_operators(report.path) == ["InstanceNormalization"]
