"""Which format a file is in, told from its content."""

from __future__ import annotations

import re
import zlib

from biod2c_core.data.images.dicom import is_dicom, may_be_data_set
from biod2c_core.data.images.nifti import GZIP, HEAD_BYTES, nifti_version
from biod2c_core.errors import ImageError

PICTURE, DICOM, NIFTI = "picture", "DICOM", "NIfTI"
PILLOW_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000", "PPM")
READ_FORMATS = (*PILLOW_FORMATS, "DICOM", "NIfTI")
PEEK_BYTES = 1 << 16

# What begins so is named, with what to do about it.
_NOT_READ = (
    (rb"NRRD\d{4}", "an NRRD volume (.nrrd)", "Convert it to NIfTI, with 3D Slicer for example."),
    (rb"(?s)\x00\x00\x00\x01.{16}\x00\x00\x00[\x00-\x0a]", "a FreeSurfer volume (.mgh, .mgz)",
     "Convert it with: mri_convert IN.mgz OUT.nii.gz."),
    (rb"(?i)\s*(ObjectType|NDims)\s*=", "a MetaImage volume (.mha, .mhd)", "Convert it to NIfTI."),
    (rb"(?s).{344}ni1\x00", "the header of a NIfTI pair (.hdr, .img)", "Save it as one .nii file."),
    (rb"(?s)....ni2\x00", "the header of a NIfTI pair (.hdr, .img)", "Save it as one .nii file."),
    (rb"(?s)(\x5c\x01\x00\x00|\x00\x00\x01\x5c).{34}r", "an Analyze volume (.hdr, .img)",
     "Convert it to NIfTI."),
    (rb"(\x89HDF|CDF\x01)", "an HDF5, MINC or netCDF file", "Convert it to NIfTI or PNG."),
    (rb"(?s).{4}ftyp", "a HEIC, AVIF or video file", "Convert it to JPEG or PNG."),
    (rb"8BPS", "a Photoshop file", "Export it as PNG or TIFF."),
    (rb"%PDF", "a PDF file", "Export the page as PNG."),
    (rb"(?s)\s*(<\?xml.{0,400})?<svg", "an SVG drawing", "Export it as PNG."),
    (rb"(?s)\s*<\?xml.{0,400}GIFTI", "a GIFTI surface", "Give a volume."),
    (rb"\x76\x2f\x31\x01", "an OpenEXR picture", "Convert it to a float TIFF."),
    (rb"\xff\x0a|\x00\x00\x00\x0cJXL ", "a JPEG XL picture", "Convert it to PNG."),
    (rb"PK\x03\x04|Rar!|7z\xbc\xaf|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd", "an archive", "Unpack it."),
)  # fmt: skip


_NOT_READ_NAMES = {
    (".nrrd", ".nhdr"): "NRRD",
    (".mgh", ".mgz"): "FreeSurfer's MGH",
    (".mha", ".mhd"): "MetaImage",
    (".hdr", ".img"): "a pair of .hdr and .img",
    (".mnc", ".h5", ".nc"): "MINC or HDF5",
}


def check_name(name: str) -> None:
    """Refuse by its name what could not be told from its content.

    Raises:
        ImageError: The name is one of a volume that is not read.
    """
    for suffixes, what in _NOT_READ_NAMES.items():
        if name.lower().removesuffix(".gz").endswith(suffixes):
            raise ImageError(
                f"{name} is called a volume of a format that is not read ({what})",
                "Convert it to NIfTI.",
            )


def recognize(head: bytes, name: str) -> str:
    """Tell a format that is read.

    Args:
        head: The first :data:`PEEK_BYTES` of the file.
        name: Its name; only ``.nii`` and ``.nii.gz`` count, for messages about damaged ones.

    Returns:
        :data:`DICOM`, :data:`NIFTI`, or :data:`PICTURE` for Pillow to look at.

    Raises:
        ImageError: It is known, and not read.
    """
    if is_dicom(head):
        return DICOM
    packed = head[:2] == GZIP
    inside = _unpacked(head) if packed else head
    if nifti_version(inside):
        return NIFTI
    name_says_nifti = name.lower().endswith((".nii", ".nii.gz"))
    for pattern, what, remedy in _NOT_READ:
        if re.match(pattern, inside[:1024]):
            raise ImageError(f"{name} is {what}, which is not read", remedy)
    if packed and not name_says_nifti:
        check_name(name)
        what = "a DICOM file" if is_dicom(inside) else "no NIfTI volume"
        raise ImageError(f"{name} is compressed with gzip and holds {what}", "Unpack it (gunzip).")
    if name_says_nifti:
        return NIFTI
    return DICOM if may_be_data_set(head) else PICTURE


def _unpacked(head: bytes) -> bytes:
    """The beginning of a gzip file, as far as it is whole."""
    stream, result = zlib.decompressobj(zlib.MAX_WBITS | 16), b""
    try:
        for start in range(0, len(head), 64):
            result += stream.decompress(head[start : start + 64], 2 * HEAD_BYTES)
            if stream.eof or len(result) >= 2 * HEAD_BYTES:
                break
    except zlib.error:
        pass  # damage is for the reader to report
    return result
