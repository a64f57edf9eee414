"""What a reader has to say about a data set as a whole: each thing once, with its count."""

from __future__ import annotations

from collections import defaultdict

from biod2c_core.errors import counted

NOT_CARRIED = "not carried over"
AS_TAGS = "kept as tags"
WITHOUT_ID = "without an id, so named by file and line"
GAPS = "taken for empty"
ENCODING = "not UTF-8, read as"
NO_CHOICE = "answers that are none of the choices"
ID_TWICE = "ids used in two files, so named by file and id"
LANGUAGE = "left out, in another language"
NO_IMAGES = "left out, since their images are not published"
SUBJECT = "left out, of another subject"
FIRST_IMAGE = "questions about several images, read with the first"
MOST_NAMES = 50
_OTHERS = "(others)"


class Notes:
    """Counts of what was noticed, in bounded memory."""

    def __init__(self) -> None:
        self._counts: defaultdict[str, dict[str, int]] = defaultdict(dict)

    def add(self, kind: str, name: str) -> None:
        """Count one row.

        Args:
            kind: What happened, one of the constants of this module.
            name: To which field, value or file; after ``MOST_NAMES`` different ones all others
                are counted together.
        """
        names = self._counts[kind]
        if name not in names and len(names) >= MOST_NAMES:
            name = _OTHERS
        names[name] = names.get(name, 0) + 1

    def lines(self) -> list[str]:
        """One line a kind: "not carried over: triple (3 rows), img_id (3 rows)"."""
        return [
            f"{kind}: "
            + ", ".join(f"{name} ({counted(count, 'row')})" for name, count in names.items())
            for kind, names in self._counts.items()
        ]
