"""Deblur frames and videos with a model file; knows no PyTorch.

>>> from deblurgan.runtime import Deblurrer
>>> with Deblurrer() as deblur:  # doctest: +SKIP
...     sharp = deblur(frame)  # RGB, uint8, [height, width, 3]
"""

from deblurgan.runtime.deblurrer import Deblurrer
from deblurgan.runtime.errors import DeblurError

__all__ = ["DeblurError", "Deblurrer"]
