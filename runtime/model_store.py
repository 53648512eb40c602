"""The models that the package ships, by name."""

from __future__ import annotations

from pathlib import Path

from deblurgan.runtime.contract import Model, open_model
from deblurgan.runtime.errors import DeblurError

FOLDER = Path(__file__).parent / "models"
DEFAULT = "edge"


def find_model(name: str | Path = DEFAULT) -> Model:
    """Open a shipped model by its name, or a contract file by its path."""
    if Path(name).suffix:
        return open_model(Path(name))
    shipped = FOLDER / f"{name}.onnx"
    if not shipped.is_file():
        names = ", ".join(sorted(path.stem for path in FOLDER.glob("*.onnx")))
        shipped_or_path = f"a shipped model ({names}) or a path of an .onnx file"
        raise DeblurError(
            "--model",
            expected=shipped_or_path,
            found=str(name),
            remedy="leave it out for the default",
        )
    return open_model(shipped)
