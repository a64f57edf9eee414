"""Language models with a chat template are asked, trained and stopped in their own format."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from biod2c_core.errors import ConfigError
from biod2c_core.model.build import build_model
from biod2c_core.model.chat.templates import apply_chat_template
from biod2c_core.model.checkpoints.folder import load_model, load_processor, save_checkpoint
from biod2c_core.model.processing import IGNORED, BioD2CProcessor

# as ChatML, with a turn's end that is not the tokenizer's end token
TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|stop|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def chat_tokenizer() -> PreTrainedTokenizerFast:
    plain = tiny_models.make_tokenizer()
    copy = type(plain.backend_tokenizer).from_str(plain.backend_tokenizer.to_str())
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=copy, bos_token="<s>", eos_token="</s>", chat_template=TEMPLATE
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|start|>", "<|stop|>"]})
    return tokenizer


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model whose tokenizer has a chat template and no padding token."""
    folder = tmp_path_factory.mktemp("chat")
    tokenizer = chat_tokenizer()
    torch.manual_seed(0)
    config = tiny_models.text_config(vocab_size=len(tokenizer))
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_prompt_and_labels_are_the_templates_own_text() -> None:
    processor = BioD2CProcessor(chat_tokenizer(), image_size=32, prompt="chat")
    decode = processor.tokenizer.decode
    ids, labels = processor.training_ids("is it\n there?", "yes")
    prompt = processor.prompt_ids("is it there?")
    assert decode(prompt) == "<|start|>user\nis it there?<|stop|>\n<|start|>assistant\n"
    assert decode(ids) == f"{decode(prompt)}yes<|stop|>"
    assert labels == [IGNORED] * len(prompt) + ids[len(prompt) :]
    assert decode(processor.question_ids("is it there?")) == "is it there?"
    conversation = [
        {"role": "user", "content": "is it there?"},
        {"role": "assistant", "content": "yes"},
    ]
    text = processor.tokenizer.apply_chat_template(conversation, tokenize=False)
    assert text.startswith(decode(ids))


def test_generation_stops_where_the_template_ends_a_turn(chat_model: Path, tmp_path: Path) -> None:
    settings = tiny_models.model_settings(chat_model, prompt="chat")
    model, processor = build_model(settings, seed=0)
    stop = processor.tokenizer.convert_tokens_to_ids("<|stop|>")
    assert processor.end_token_id == stop
    assert stop in model.generation_config.eos_token_id
    assert processor.tokenizer.pad_token_id == processor.tokenizer.eos_token_id
    save_checkpoint(tmp_path, model, processor)
    again, loaded = load_processor(tmp_path), load_model(tmp_path)
    assert again.prompt == "chat"
    assert again.end_token_id == stop
    assert stop in loaded.generation_config.eos_token_id
    assert again.prompt_ids("is it?") == processor.prompt_ids("is it?")


def test_padding_with_the_end_token_changes_no_answer(chat_model: Path) -> None:
    """Two questions of different length in one batch, and each alone."""
    model, processor = tiny_models.build(chat_model, prompt="chat")
    images = [tiny_models.make_image(0), tiny_models.make_image(1)]
    questions = [tiny_models.QUESTIONS[0], tiny_models.QUESTIONS[3]]
    with torch.no_grad():
        together = model(**processor(images, questions)).logits[:, -1]
        for row in range(2):
            alone = model(**processor([images[row]], [questions[row]])).logits[0, -1]
            torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=1e-4)


def test_a_template_is_told_the_date_of_training(tmp_path: Path) -> None:
    """As those of Llama 3 and SmolLM3, which would otherwise put another prompt every day."""
    tokenizer = chat_tokenizer()
    tokenizer.chat_template = "{{ strftime_now('%d %B %Y') }} " + TEMPLATE
    processor = BioD2CProcessor(tokenizer, image_size=32, prompt="chat")
    decode = processor.tokenizer.decode
    assert decode(processor.prompt_ids("is it?")).startswith("26 July 2024 <|start|>")
    other = BioD2CProcessor(tokenizer, image_size=32, prompt="chat", prompt_date="2020-02-29")
    other.save_pretrained(tmp_path)
    again = load_processor(tmp_path)
    assert decode(again.prompt_ids("is it?")).startswith("29 February 2020 <|start|>")
    assert again.training_ids("is it?", "yes") == other.training_ids("is it?", "yes")
    now = apply_chat_template(tokenizer, [{"role": "user", "content": "is it?"}])
    assert str(date.today().year) in now  # other people's models are told the truth


@pytest.mark.parametrize("day", ["today", "2024-02-30", 7, ["2024-01-01"]])
def test_a_date_that_is_none_is_refused(day: Any) -> None:
    with pytest.raises(ConfigError, match=r"the prompt's date is .* Expected YYYY-MM-DD"):
        BioD2CProcessor(chat_tokenizer(), image_size=32, prompt_date=day)


def test_chat_without_a_template_is_refused() -> None:
    with pytest.raises(ConfigError, match="the prompt is 'chat', but the tokenizer has no chat"):
        BioD2CProcessor(tiny_models.make_tokenizer(), image_size=32, prompt="chat")


def test_an_end_token_of_the_checkpoint_wins() -> None:
    """The authors' weights end an answer on id 1, whatever their tokenizer says."""
    processor = BioD2CProcessor(
        tiny_models.make_tokenizer(), image_size=32, end_token_id=1, fusion_reads="prompt"
    )
    ids, labels = processor.training_ids("is it?", "yes")
    assert ids[-1] == labels[-1] == 1
    assert processor.question_ids("is it?") == processor.prompt_ids("is it?")[:32]
