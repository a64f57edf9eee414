"""The pipeline of transformers answers as ``biod2c ask`` does, with messages and plainly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_models
from PIL import Image
from transformers import AutoProcessor, pipeline
from transformers.pipelines import PIPELINE_REGISTRY

import biod2c
from biod2c_core.errors import InputError
from biod2c_core.model.chat.last_question import CHAT_TEMPLATE
from biod2c_core.model.checkpoints.card import CardFacts, model_card
from biod2c_core.model.checkpoints.export import export
from biod2c_core.model.checkpoints.folder import EMBEDDED

XRAY = Path(__file__).resolve().parents[2] / "examples" / "chest_xray.jpg"
QUESTION = "What organ is shown?"
TASK = "image-text-to-text"


def message(question: str, **image: Any) -> dict[str, Any]:
    pictures = [{"type": "image", **image}] if image else []
    return {"role": "user", "content": [*pictures, {"type": "text", "text": question}]}


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(str(checkpoint), tmp_path_factory.mktemp("exported") / "model", CardFacts())


@pytest.fixture(scope="module", params=["embedded", "exported"])
def folder(request: pytest.FixtureRequest) -> Path:
    return EMBEDDED if request.param == "embedded" else request.getfixturevalue("exported")


@pytest.fixture(scope="module")
def ask(folder: Path) -> Any:
    return pipeline(TASK, model=str(folder), device="cpu")


@pytest.fixture(scope="module")
def answer(folder: Path) -> str:
    reply = biod2c.load(folder, "cpu").ask(XRAY, QUESTION)
    assert reply.answer is not None
    return reply.answer


LENGTH = {"max_new_tokens": 32}  # as ask: a random model may not end by itself


def test_messages_are_answered(ask: Any, answer: str) -> None:
    (whole,) = ask(text=[message(QUESTION, path=str(XRAY))], **LENGTH)
    assert whole["generated_text"][-1] == {"role": "assistant", "content": answer}
    (new,) = ask(text=[message(QUESTION, image=Image.open(XRAY))], return_full_text=False, **LENGTH)
    assert new["generated_text"] == answer


def test_images_and_questions_are_answered_plainly(ask: Any, answer: str) -> None:
    (single,) = ask(images=str(XRAY), text=QUESTION, return_full_text=False, **LENGTH)
    assert single["generated_text"] == answer
    several = ask(
        images=[str(XRAY)] * 2, text=[QUESTION, "is it?"], return_full_text=False, **LENGTH
    )
    assert several[0]["generated_text"] == answer


def test_the_last_question_of_a_conversation_is_asked(ask: Any, answer: str) -> None:
    said = {"role": "assistant", "content": [{"type": "text", "text": "x-ray"}]}
    conversation = [message("What is this?", path=str(XRAY)), said, message(QUESTION)]
    (reply,) = ask(text=conversation, return_full_text=False, **LENGTH)
    assert reply["generated_text"] == answer


def test_a_question_is_about_one_image(ask: Any) -> None:
    two = {"role": "user", "content": [{"type": "image", "path": str(XRAY)}] * 2}
    two["content"].append({"type": "text", "text": QUESTION})
    with pytest.raises(InputError, match="about one image, 2 given"):
        ask(text=[two])
    with pytest.raises(InputError, match="2 questions and 1 image given"):
        ask(images=[str(XRAY)], text=[QUESTION] * 2)


def test_the_chat_template_gives_what_the_processor_takes(folder: Path) -> None:
    processor = AutoProcessor.from_pretrained(folder)
    assert processor.chat_template == CHAT_TEMPLATE
    conversation = [message(QUESTION, path=str(XRAY))]
    text = processor.apply_chat_template(conversation, add_generation_prompt=True)
    assert text == QUESTION
    image = tiny_models.make_image(0)
    ours, theirs = processor([image], [QUESTION]), processor(images=image, text=text)
    assert {name: value.tolist() for name, value in ours.items()} == {
        name: value.tolist() for name, value in theirs.items()
    }
    with pytest.raises(InputError, match="cannot do max_length=3"):
        processor(images=image, text=text, max_length=3)


def test_the_tokenizers_own_template_is_what_is_saved(exported: Path, tmp_path: Path) -> None:
    processor = AutoProcessor.from_pretrained(exported)
    assert not (exported / "chat_template.jinja").exists()
    processor.tokenizer.chat_template = "{{ messages[0]['content'] }}!"
    processor.save_pretrained(tmp_path)
    again = AutoProcessor.from_pretrained(tmp_path)
    assert again.tokenizer.chat_template == processor.tokenizer.chat_template
    assert again.chat_template == processor.chat_template == CHAT_TEMPLATE


def test_the_card_names_a_pipeline_that_exists(checkpoint: Path) -> None:
    card = model_card(checkpoint, "owner/model", CardFacts())
    (task,) = [line for line in card.splitlines() if line.startswith("pipeline_tag: ")]
    assert task.removeprefix("pipeline_tag: ") in PIPELINE_REGISTRY.get_supported_tasks()
