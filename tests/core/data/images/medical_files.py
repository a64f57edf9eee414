"""DICOM and NIfTI files of a few pixels, made for the tests."""

from __future__ import annotations

import gzip
import io
from typing import Any

import numpy as np
import pytest

from biod2c_core.data.images import load_image

RAMP = np.arange(12, dtype=np.uint16).reshape(3, 4) * 100  # 0 .. 1100


def dicom(values: np.ndarray = RAMP, **tags: Any) -> bytes:
    pydicom = pytest.importorskip("pydicom", reason="the extra 'medical' is not installed")
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = Dataset()
    data.file_meta = meta
    data.PatientName = "SECRET^PATIENT"
    data.PatientBirthDate = "19700101"
    colour = values.ndim == 3 and values.shape[-1] == 3
    data.SamplesPerPixel = 3 if colour else 1
    data.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        data.PlanarConfiguration = 0
    elif values.ndim == 3:
        data.NumberOfFrames = len(values)
    data.Rows, data.Columns = values.shape[:2] if colour else values.shape[-2:]
    data.BitsAllocated = data.BitsStored = values.dtype.itemsize * 8
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(values.dtype.kind == "i")
    data.PixelData = values.tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, data, enforce_file_format=True)
    return buffer.getvalue()


def grey(data: bytes, **options: Any) -> np.ndarray:
    picture = np.asarray(load_image(data, **options))
    assert (picture[..., 0] == picture[..., 1]).all()
    return picture[..., 0]


def nifti(
    values: np.ndarray,
    affine: np.ndarray | None = None,
    packed: bool = False,
    version: int = 1,
    order: str = "<",
    **header: float,
) -> bytes:
    nibabel = pytest.importorskip("nibabel", reason="the extra 'medical' is not installed")
    kind = {1: nibabel.Nifti1Image, 2: nibabel.Nifti2Image}[version]
    start = kind.header_class(endianness=order)
    start.set_data_dtype(values.dtype)
    image = kind(values, np.eye(4) if affine is None else affine, start)
    for name, value in header.items():
        image.header[name] = value
    data = image.to_bytes()
    return gzip.compress(data) if packed else data


def table(descriptor: list[int], data: bytes | list[int], first_is: str = "US") -> Any:
    """One look-up table, as an item of a sequence."""
    from pydicom.dataset import Dataset

    item = Dataset()
    item.add_new(0x00283002, first_is, descriptor)
    item.add_new(0x00283006, "OW" if isinstance(data, bytes) else "US", data)
    item.ModalityLUTType = "US"
    return item


def palette(
    tables: dict[str, np.ndarray], first: int, bits: int, entries: int | None = None
) -> dict[str, Any]:
    """The elements of PALETTE COLOR, from a table for each of Red, Green and Blue."""
    elements: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, values in tables.items():
        count = len(values) if entries is None else entries
        keyword = f"{colour}PaletteColorLookupTable"
        elements[f"{keyword}Descriptor"] = [count % 65536, first, bits]
        elements[f"{keyword}Data"] = values.tobytes()
    return elements


def group(**macros: dict[str, Any]) -> Any:
    """One item of functional groups: macro sequences by keyword, each of the elements given."""
    from pydicom.dataset import Dataset

    outer = Dataset()
    for keyword, elements in macros.items():
        inner = Dataset()
        for name, value in elements.items():
            setattr(inner, name, value)
        setattr(outer, keyword, [inner])
    return outer
