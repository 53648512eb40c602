"""The models that the package ships, by name, and others by their path."""

from __future__ import annotations

from pathlib import Path

from deblurgan.runtime.contract import Model, open_model
from deblurgan.runtime.errors import DeblurError

FOLDER = Path(__file__).parent / "models"
DEFAULT = "edge"


def find_model(name: str | Path = DEFAULT) -> Model:
    """Open a shipped model by its name, or a contract file or a plan by its path.

    A plan is a model for one backend and for the sizes that it was built for; its sidecar
    has to be beside it. Raises :class:`DeblurError` where there is no such model.
    """
    if Path(name).suffix == ".plan":
        from deblurgan.runtime.tensorrt.plan_model import open_plan_model

        return open_plan_model(Path(name))
    if Path(name).suffix:
        return open_model(Path(name))
    shipped = FOLDER / f"{name}.onnx"
    if not shipped.is_file():
        names = ", ".join(sorted(path.stem for path in FOLDER.glob("*.onnx")))
        shipped_or_path = f"a shipped model ({names}) or a path of an .onnx or .plan file"
        raise DeblurError(
            "--model",
            expected=shipped_or_path,
            found=str(name),
            remedy="leave it out for the default",
        )
    return open_model(shipped)
