"""Decodes one frame of a DICOM file by GDCM, in a separate process.

GDCM ends its process on some damaged files, and nothing in Python can catch that. Started as a
script, by path, so that neither the working folder nor this package is imported from; standard
input is the file, the argument the options of pydicom's ``pixel_array``, standard output the array.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys

MEMORY = 2 << 30
SECONDS = 20


def main() -> None:
    """Read, decode, write."""
    del sys.path[0]  # this folder
    with contextlib.suppress(ImportError):  # not on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    import numpy as np
    from pydicom import config
    from pydicom.pixels import pixel_array

    source, result = io.BytesIO(sys.stdin.buffer.read()), io.BytesIO()
    with config.disable_value_validation():
        values = pixel_array(source, decoding_plugin="gdcm", **json.loads(sys.argv[1]))
    np.save(result, values, allow_pickle=False)
    sys.stdout.buffer.write(result.getbuffer())


if __name__ == "__main__":
    main()
