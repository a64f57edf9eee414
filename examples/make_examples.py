"""Make the example images from the DICOM files of the package ``pydicom-data==1.0.0`` (MIT).

Run it as ``python examples/make_examples.py FOLDER_OF_DICOM_FILES``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image, ImageDraw

SIZE = 448  # pixels on the long side
SOURCES = {
    "chest_xray.jpg": ("RG1_UNCI.dcm", (1, 99.5)),
    "abdomen_mri.jpg": ("MR-SIEMENS-DICOM-WithOverlays.dcm", (1, 99.5)),
    "head_ct.jpg": ("693_UNCI.dcm", (52, 99.0)),
}


def window(pixels: np.ndarray, percentiles: tuple[float, float]) -> Image.Image:
    """Stretch the grey values between two percentiles to 0..255."""
    low, high = np.percentile(pixels, percentiles)
    scaled = np.clip((pixels - low) / (high - low), 0, 1)
    return Image.fromarray((scaled * 255).astype(np.uint8))


def draw_arrow(image: Image.Image, tip: tuple[int, int], tail: tuple[int, int]) -> Image.Image:
    """A white arrow whose tip is at ``tip``, both in pixels."""
    drawn = image.convert("RGB")
    pen = ImageDraw.Draw(drawn)
    direction = np.subtract(tip, tail) / np.linalg.norm(np.subtract(tip, tail))
    normal = np.array([-direction[1], direction[0]])
    neck = np.array(tip) - 16 * direction
    pen.line([tail, tuple(neck)], fill="white", width=5)
    pen.polygon([tip, tuple(neck + 8 * normal), tuple(neck - 8 * normal)], fill="white")
    return drawn


def main() -> None:
    """Write the images beside this script."""
    folder = Path(__file__).parent
    for name, (source, percentiles) in SOURCES.items():
        dataset = pydicom.dcmread(Path(sys.argv[1]) / source)
        pixels = dataset.pixel_array.astype(float)
        if dataset.PhotometricInterpretation == "MONOCHROME1":
            pixels = pixels.max() - pixels
        image = window(pixels, percentiles)
        image.thumbnail((SIZE, SIZE))
        image.save(folder / name, quality=90)
        if name == "abdomen_mri.jpg":
            draw_arrow(image, (126, 206), (48, 128)).save(
                folder / "abdomen_mri_arrow.jpg", quality=90
            )


if __name__ == "__main__":
    main()
