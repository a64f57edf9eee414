"""Which pictures of a volume are asked about: ``--slices 10:60:2``, with Python's meaning."""

from __future__ import annotations

from dataclasses import dataclass

from biod2c_core.errors import ImageError, InputError


@dataclass(frozen=True)
class Slices:
    """A choice of slices.

    Attributes:
        text: As it was given.
        parts: Numbers and ranges.
    """

    text: str
    parts: tuple[int | slice, ...]

    @classmethod
    def parse(cls, text: str) -> Slices:
        """Read numbers and ``start:stop:step``, several with commas.

        Raises:
            InputError: It is neither.
        """
        try:
            return cls(text, tuple(_part(part) for part in text.split(",")))
        except (AttributeError, ValueError):  # a Python caller may give what is not text
            raise InputError(
                f"{text!r} is not a choice of slices",
                "Write 12, 10:60:2, 3,7,20:30 or : for all.",
            ) from None

    def of(self, count: int, name: str) -> list[int]:
        """The indexes that are meant, each once, in the order given.

        Args:
            count: How many slices there are.
            name: Of the volume, for messages.

        Raises:
            ImageError: A number is not there, or nothing is left.
        """
        chosen: dict[int, None] = {}
        for part in self.parts:
            if isinstance(part, slice):
                chosen |= dict.fromkeys(range(count)[part])
            elif -count <= part < count:
                chosen[part % count] = None
            else:
                raise ImageError(
                    f"{name} has slices 0 to {count - 1}, not {part}", "Choose some of them."
                )
        if not chosen:
            raise ImageError(
                f"{self.text!r} leaves nothing of {name}, which has slices 0 to {count - 1}",
                "Choose some of them.",
            )
        return list(chosen)


def _part(text: str) -> int | slice:
    if ":" not in text:
        return int(text)
    bounds = [int(each) if each.strip() else None for each in text.split(":")]
    if len(bounds) > 3 or bounds[2:] == [0]:
        raise ValueError(text)
    return slice(*bounds)
