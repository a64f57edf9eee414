"""Knowledge bases in their file formats, and what retrieval finds in them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from biod2c_core.curation.retrieval import (
    Bm25Retriever,
    Entry,
    Knowledge,
    best_indices,
    captions_as_entries,
    load_entries,
    tokens,
)
from biod2c_core.errors import InputError

TEXTS = ["pneumonia with air bronchogram", "rib fracture", "pleural effusion", "hip fracture"]


def entries(*texts: str) -> list[Entry]:
    return [Entry((text,)) for text in texts or TEXTS]


def test_bm25_finds_entries_that_share_words_rarest_first() -> None:
    search = Bm25Retriever(entries()).search
    assert search("Fractures of the hip", 4) == [3, 1]
    assert search("a fracture", 1) == [1]  # a tie goes to the lower index
    assert search("nothing of this", 4) == []
    assert search("", 4) == []


def test_bm25_agrees_with_the_formula() -> None:
    """Lucene's BM25: idf * tf / (tf + k1 (1 - b + b * length / mean length))."""
    documents = ["lung nodule", "lung lung mass", "liver"]
    scores = Bm25Retriever(entries(*documents))._index.get_scores(tokens("lung"))
    lengths = np.array([2, 3, 1])
    idf = np.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    tf = np.array([1, 2, 0])
    expected = idf * tf / (tf + 1.5 * (0.25 + 0.75 * lengths / lengths.mean()))
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_best_breaks_ties_by_index() -> None:
    assert best_indices(np.array([1.0, 3.0, 3.0, 2.0, 3.0]), 2) == [1, 2]
    assert best_indices(np.array([1.0, 3.0]), 5) == [1, 0]
    assert best_indices(np.array([]), 3) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("k.txt", "Rib fracture.\n\nPleural effusion\n"),
        ("k.jsonl", '{"name": "Rib fracture", "id": 3}\n"Pleural effusion"\n'),
        ("k.json", '[{"text": "Rib fracture"}, {"term": "Pleural effusion", "x": null}]'),
        ("k.json", '{"a": {"title": "Rib fracture"}, "b": "Pleural effusion"}'),
    ],
)
def test_every_format_gives_the_same_entries(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert load_entries(tmp_path / name) == entries("Rib fracture", "Pleural effusion")


def test_terms_with_their_synonyms_are_entries(tmp_path: Path) -> None:
    (tmp_path / "k.json").write_text('{"abscess": ["purulent collection"], "acl": []}')
    texts = [entry.texts for entry in load_entries(tmp_path / "k.json")]
    assert texts == [("abscess", "purulent collection"), ("acl",)]


def test_fields_enter_in_order_and_long_texts_in_pieces(tmp_path: Path) -> None:
    definition = (
        "A collection of fluid in the pleural space, which compresses the adjacent lung and is seen as "
        "a meniscus on upright radiographs, often with a shift of the mediastinum."
    )
    row = {"definition": definition, "synonyms": ["Hydrothorax", 4], "name": "Pleural effusion"}
    (tmp_path / "k.jsonl").write_text(json.dumps(row) + "\n")
    (entry,) = load_entries(tmp_path / "k.jsonl")
    assert entry.texts[:3] == (
        "Pleural effusion",
        "Hydrothorax",
        "A collection of fluid in the pleural space",
    )
    assert all(len(text.split()) <= 20 for text in entry.texts)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("k.jsonl", '{"label": "x y"}\n', "no entry with text"),
        ("k.txt", "\n\n", "no entry with text"),
        ("k.json", "7", "no entry with text"),
        ("k.json", "[", "not JSON"),
        ("k.json", "[" * 100_000, "not JSON"),
        ("k.jsonl", "[\n", r"k\.jsonl:1"),
    ],
)
def test_a_bad_file_is_one_error(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        load_entries(tmp_path / name)


def test_a_missing_file_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        load_entries(tmp_path / "absent.txt")


def test_a_file_without_end_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biod2c_core.curation.retrieval._MOST_BYTES", 2**20)
    (tmp_path / "k.txt").symlink_to("/dev/zero")
    with pytest.raises(InputError, match="longer than 1 MiB"):
        load_entries(tmp_path / "k.txt")


def test_captions_become_entries_once() -> None:
    made = captions_as_entries(["CT of the liver.", "CT of the liver.", "Figure 2."])
    assert [entry.texts[-1] for entry in made] == ["liver"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random BERT, saved as a sentence encoder is."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    words = sorted({word for text in TEXTS for word in text.split()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=300,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def test_dense_retrieval_finds_the_text_itself_whatever_the_batch(encoder: Path) -> None:
    from biod2c_core.curation.retrieval import DenseRetriever

    one_by_one, together = (DenseRetriever(entries(), encoder, batch_size=size) for size in (1, 64))
    np.testing.assert_allclose(one_by_one._embedded, together._embedded, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together._embedded, axis=1), 1.0, atol=1e-5)
    for index, text in enumerate(TEXTS):
        assert together.search(text, 2)[0] == index
    assert together.search(" ", 2) == []


def test_dense_retrieval_needs_a_local_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        _ = Knowledge(entries(), tmp_path / "absent").retriever
    with pytest.raises(InputError, match="no sentence encoder"):
        _ = Knowledge(entries(), tmp_path).retriever
