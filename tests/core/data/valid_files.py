"""Small valid files of every kind that is read, for those tests that damage them."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
from typing import Any

import layouts
import numpy as np
from PIL import Image

ROW = {"image": "x.jpg", "question": "q", "answer": "a", "split": "test", "tags": {"organ": "lung"}}
_PMC = "Figure_path,Question,Answer,Choice A,Choice B,Choice C,Choice D,Answer_label\n"


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.copy().save(buffer, kind, **options)  # Pillow leaves its options on what it has saved
    return buffer.getvalue()


def picture_seeds() -> dict[str, bytes]:
    """Small valid files of each kind, by a name with their suffix."""
    from test_picture_kinds import png, tiff

    noise = np.random.default_rng(0).integers(0, 256, (24, 31, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)

    def several(kind: str) -> bytes:
        frames = [Image.fromarray(np.roll(noise, at, 0)) for at in range(4)]
        return encoded(picture, kind, save_all=True, append_images=frames)

    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "a.jpg": encoded(picture, "JPEG", exif=exif),
        "progressive.jpg": encoded(picture, "JPEG", progressive=True),
        "cmyk.jpg": encoded(picture.convert("CMYK"), "JPEG"),
        "several.jpg": several("MPO"),
        "a.png": encoded(picture, "PNG"),
        "palette.png": encoded(picture.quantize(16), "PNG"),
        "animated.png": several("PNG"),
        "wide.png": encoded(Image.fromarray(noise[..., 0].astype(np.uint16) * 99), "PNG"),
        "deep.png": png(noise.astype(np.uint16) * 99, 2),
        "a.tif": encoded(picture, "TIFF", compression="tiff_lzw"),
        "pages.tif": several("TIFF"),
        "jpeg.tif": encoded(picture, "TIFF", compression="jpeg"),
        "fax.tif": encoded(picture.convert("1"), "TIFF", compression="group4"),
        "deep.tif": tiff(noise.astype(np.uint16), t284=2, t259=8),
        "float.tif": encoded(Image.fromarray(noise[..., 0] / 3), "TIFF", tiffinfo={317: 3}),
        "a.gif": encoded(picture, "GIF"),
        "animated.gif": several("GIF"),
        "a.webp": encoded(picture, "WEBP"),
        "animated.webp": several("WEBP"),
        "a.bmp": encoded(picture, "BMP"),
        "bits.bmp": encoded(picture.convert("1"), "BMP"),
        "a.ppm": encoded(picture, "PPM"),
        "a.pgm": encoded(picture.convert("L"), "PPM"),
        "a.jp2": encoded(picture, "JPEG2000"),
        "a.j2k": encoded(picture, "JPEG2000", no_jp2=True),
    }


def lines(rows: Any) -> bytes:
    """JSONL, also of what UTF-8 cannot hold."""
    rows = rows if isinstance(rows, list) else [rows]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def one_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def table_seeds() -> dict[str, tuple[str, bytes, Any, Any]]:
    """Place in its data set: format name, valid content, its tree, and what writes the tree."""
    turns = [{"id": str(n), "image": "x", "conversatons": layouts.CONVERSATION} for n in range(3)]
    slake = [{**layouts.SLAKE_ROW, "qid": n} for n in range(3)]
    rad = [{**layouts.RAD_ROW, "qid": n} for n in range(3)]
    row = {"image": "x.jpg", "question": "q", "answer": "a", "queue": "b, c"}
    own = [{**ROW, "id": str(n), "queue": ["b"], "boxes": [[0, 0, 1, 1]]} for n in range(3)]
    answers = [{**layouts.PATH_ROW, "answer": str(n)} for n in range(5)]
    trees = {
        "train.json": ("slake", slake, one_json),
        "trainset.json": ("vqa-rad", rad, one_json),
        "align.json": ("llava-med", turns, one_json),
        "train.jsonl": ("biovgq", [row] * 3, lines),
        "captions/train.jsonl": ("pmc-oa", [{"image": "x.jpg", "caption": "A lung."}] * 3, lines),
        "all.jsonl": ("jsonl", own, lines),
        "pvqa/qas/train/a_qa.pkl": ("path-vqa", answers, lambda rows: pickle.dumps(rows, 2)),
        "pvqa/qas/val/b_qa.pkl": ("path-vqa", answers, lambda rows: pickle.dumps(rows, 4)),
    }
    texts = {
        "train.csv": ("pmc-vqa", (_PMC + 'x.jpg,"q, r",a,A:a,B:b,C:c,D:d,A\n' * 3).encode()),
        "semicolons.csv": (
            "csv",
            "Bild;image;question;answer\n1;x.png;größer?;ja\n".encode("cp1252") * 3,
        ),
        "wide.csv": ("csv", "image,question,answer\nx.png,größer?,yes\n".encode("utf-16")),
        "tabs.tsv": ("csv", b"\xef\xbb\xbfimg\tquery\tgold\nx.png\tq\ty\n"),
        "mine.csv": ("csv", b"image,question,answer,split\n" + b'x.png,"a ""b""",yes,test\n' * 3),
    } | parquet_seed()
    found = {place: (name, dump(tree), tree, dump) for place, (name, tree, dump) in trees.items()}
    return found | {place: (name, text, None, None) for place, (name, text) in texts.items()}


def parquet_seed() -> dict[str, tuple[str, bytes]]:
    """A table as the hub serves it, where the extra ``data`` is installed."""
    with contextlib.suppress(ImportError):
        import datasets
        import pyarrow
        import pyarrow.parquet

        datasets.disable_progress_bars()
        picture = encoded(Image.new("RGB", (9, 7), "red"), "PNG")
        images = [{"bytes": picture, "path": f"{n}.png"} for n in range(4)]
        table = {"image": images, "question": ["q"] * 4, "answer": ["yes"] * 4}
        buffer = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table(table), buffer)
        return {"hub/data/train-00000-of-00001.parquet": ("hub-parquet", buffer.getvalue())}
    return {}
