"""The same BioD2C model as others' trainers take a vision-language model, and these trainers.

Each is given what a competent user of it would write: a thin model with placeholder tokens for the picture,
records tokenized beforehand, its own padding to the longest of a batch, SDPA, no activation checkpointing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainerCallback
from transformers.modeling_outputs import BaseModelOutputWithPast

from biod2c_core.model.modeling import BioD2CForConditionalGeneration
from biod2c_core.model.processing import IGNORED, BioD2CProcessor
from biod2c_core.ops.padding import pad
from biod2c_core.training.inputs.collate import VQADataset, read_pictures

INPUTS = ("input_ids", "attention_mask", "labels")


class Backbone(nn.Module):
    """Everything but the head: from ids with placeholders and pixels to hidden states.

    Args:
        biod2c: The model, ready for its stage.
        placeholder: The token id in whose places the visual tokens are put.
    """

    def __init__(self, biod2c: BioD2CForConditionalGeneration, placeholder: int) -> None:
        super().__init__()
        self.biod2c = biod2c
        self.placeholder = placeholder

    def embed(self, input_ids: Tensor, **picture: Tensor) -> Tensor:
        """The embedded text, (B, V + P, d), with the visual tokens in the places kept for them."""
        image = self.biod2c.encode_image(picture["pixel_values"])
        visual = self.biod2c.encode(picture["question_ids"], picture["question_mask"], image)
        text = self.biod2c.get_input_embeddings()(input_ids)
        places = (input_ids == self.placeholder).unsqueeze(-1)
        return text.masked_scatter(places, visual.tokens.to(text.dtype))

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pixel_values: Tensor,
        question_ids: Tensor,
        question_mask: Tensor,
        use_cache: bool = False,
    ) -> BaseModelOutputWithPast:
        """Hidden states of all positions, (B, V + P, d)."""
        picture = {
            "pixel_values": pixel_values,
            "question_ids": question_ids,
            "question_mask": question_mask,
        }
        decoder = self.biod2c.language_model.model
        embeddings = self.embed(input_ids, **picture)
        return decoder(inputs_embeds=embeddings, attention_mask=attention_mask, use_cache=use_cache)


class PeersModel(PreTrainedModel):
    """The model as transformers lays a vision-language model out: ``model``, then the head.

    Args:
        biod2c: The model, ready for its stage.
        placeholder: The token id in whose places the visual tokens are put.
    """

    base_model_prefix = "model"
    _supports_sdpa = True

    def __init__(self, biod2c: BioD2CForConditionalGeneration, placeholder: int) -> None:
        super().__init__(biod2c.language_model.config)
        self.model = Backbone(biod2c, placeholder)
        self.generation_config = biod2c.generation_config
        for module in self.modules():  # else the language model draws its adapters anew
            module._is_hf_initialized = True
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The language model's."""
        return self.model.biod2c.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        """The language model's."""
        return self.model.biod2c.get_output_embeddings()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pixel_values: Tensor,
        question_ids: Tensor,
        question_mask: Tensor,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        use_cache: bool = False,
        **kwargs: Any,
    ) -> Any:
        """The language model's own forward pass and loss behind the visual tokens."""
        picture = {
            "pixel_values": pixel_values,
            "question_ids": question_ids,
            "question_mask": question_mask,
        }
        return self.model.biod2c.language_model(
            inputs_embeds=self.model.embed(input_ids, **picture),
            attention_mask=attention_mask,
            labels=labels,
            logits_to_keep=logits_to_keep,
            use_cache=use_cache,
            **kwargs,
        )


def make_rows(
    samples: VQADataset, order: Sequence[int], model: BioD2CForConditionalGeneration, mark: int
) -> Dataset:
    """Tokenized records in this order, with places for the visual tokens."""
    begin, visual = model.config.begin_tokens, model.config.num_visual_tokens

    def with_places(ids: Any, fill: int) -> list[int]:
        return [*ids[:begin], *[fill] * visual, *ids[begin:]]

    rows = (samples[index] for index in order)
    return Dataset.from_list(
        [
            {
                "input_ids": with_places(row["input_ids"], mark),
                "labels": with_places(row["labels"], IGNORED),
                "question_ids": list(row["question_ids"]),
                "picture": str(row["image"]),
            }
            for row in rows
        ]
    )


class WithPictures:
    """A collator of the peer's for the text; beside it the pictures and the questions.

    Args:
        text: The peer's, for ``input_ids`` and ``labels``.
        processor: The model's.
    """

    def __init__(self, text: Callable[[Any], Any], processor: BioD2CProcessor) -> None:
        self.text = text
        self.padding = processor.tokenizer.pad_token_id
        self.image_size = processor.image_size

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Make a batch."""
        own = ("input_ids", "labels")
        batch = dict(self.text([{name: row[name] for name in own} for row in rows]))
        batch = {name: batch[name] for name in INPUTS}
        ids, mask = pad([row["question_ids"] for row in rows], self.padding)
        pictures = read_pictures([Path(row["picture"]) for row in rows], self.image_size)
        return {**batch, "question_ids": ids, "question_mask": mask, "pixel_values": pictures}


def trl(
    model: PeersModel,
    processor: BioD2CProcessor,
    rows: Dataset,
    common: dict[str, Any],
    callback: TrainerCallback,
) -> Any:
    """TRL's SFTTrainer."""
    from trl import SFTConfig, SFTTrainer
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    text = DataCollatorForLanguageModeling(pad_token_id=processor.tokenizer.pad_token_id)
    return SFTTrainer(
        model=model,
        args=SFTConfig(**common, dataset_kwargs={"skip_prepare_dataset": True}),
        train_dataset=rows,
        data_collator=WithPictures(text, processor),
        processing_class=processor.tokenizer,
        callbacks=[callback],
    )


def trl_answers_only(*given: Any) -> Any:
    """TRL with its head at answered positions alone, which it does by itself on GPUs only."""
    from trl.trainer import utils

    utils._use_triton = lambda device: True  # the kernels still ask for themselves
    return trl(*given)


def llamafactory(
    model: PeersModel,
    processor: BioD2CProcessor,
    rows: Dataset,
    common: dict[str, Any],
    callback: TrainerCallback,
) -> Any:
    """LLaMA-Factory's trainer of supervised fine-tuning."""
    from llamafactory.hparams import FinetuningArguments, TrainingArguments
    from llamafactory.train.sft.trainer import CustomSeq2SeqTrainer
    from transformers import DataCollatorForSeq2Seq

    return CustomSeq2SeqTrainer(
        finetuning_args=FinetuningArguments(disable_shuffling=True),
        processor=None,
        model=model,
        args=TrainingArguments(**common),
        train_dataset=rows,
        data_collator=WithPictures(DataCollatorForSeq2Seq(processor.tokenizer), processor),
        tokenizer=processor.tokenizer,
        callbacks=[callback],
    )


def ms_swift(
    model: PeersModel,
    processor: BioD2CProcessor,
    rows: Dataset,
    common: dict[str, Any],
    callback: TrainerCallback,
) -> Any:
    """ms-swift's trainer of supervised fine-tuning."""
    from swift.model import get_model_processor
    from swift.template import get_template
    from swift.trainers import Seq2SeqTrainer, Seq2SeqTrainingArguments

    folder = processor.tokenizer.name_or_path
    known = get_model_processor(folder, load_model=False, model_type="llama")[1]
    model.model_info, model.model_meta = known.model_info, known.model_meta
    template = get_template(known, template_type="dummy")
    template.set_mode("train")
    arguments = Seq2SeqTrainingArguments(
        **common, check_model=False, train_dataloader_shuffle=False
    )
    trainer = Seq2SeqTrainer(model, arguments, template, rows)
    trainer.data_collator = WithPictures(trainer.data_collator, processor)
    trainer.add_callback(callback)
    return trainer


TRAINERS = {
    "trl": trl,
    "trl-answers-only": trl_answers_only,
    "llamafactory": llamafactory,
    "ms-swift": ms_swift,
}
