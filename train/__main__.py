"""``python train run …``: training from a bare checkout, where nothing can be
installed; a rented GPU machine without a network, say.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

# This folder came first on the path because it was named; it holds no packages.
sys.path.pop(0)
if importlib.util.find_spec("deblurgan") is None:
    # What installing does: the checkout's folders are the packages of `deblurgan`.
    deblurgan = ModuleType("deblurgan")
    deblurgan.__path__ = [str(Path(__file__).resolve().parents[1])]
    sys.modules["deblurgan"] = deblurgan

from deblurgan.train.app import main

# Several devices: each process is started like this one, which a folder's name is for.
sys.argv[0] = str(Path(__file__).resolve().parent)
__spec__ = None

main()
