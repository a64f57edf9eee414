"""Any image file as an RGB picture: photographs, scientific TIFF and PNG, DICOM and NIfTI."""

from __future__ import annotations

from biod2c_core.data.images.files import (
    IMAGE_SUFFIXES,
    MAX_BYTES,
    check_image_file,
    describe_source,
    resolve_image,
)
from biod2c_core.data.images.load import Selection, is_volume, load_image
from biod2c_core.data.images.pictures import to_upright_rgb
from biod2c_core.data.images.pixels import MAX_PIXELS, Window
from biod2c_core.data.images.stack import Stack, open_stack

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_BYTES",
    "MAX_PIXELS",
    "Selection",
    "Stack",
    "Window",
    "check_image_file",
    "describe_source",
    "is_volume",
    "load_image",
    "open_stack",
    "resolve_image",
    "to_upright_rgb",
]
