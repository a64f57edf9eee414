"""BioD2C, assembled as in section 3: vision tower, feature fusion, language model, losses.

Notation used for tensor shapes:

- B: batch, P: prompt and answer tokens, T: question tokens, V: visual tokens, N: side of the grid,
  D: width of the image features, d: width of the language model, k: queue texts, L: their tokens
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    GenerationMixin,
    LogitsProcessorList,
    PreTrainedModel,
)
from transformers.modeling_outputs import ModelOutput

from biod2c_core.errors import ConfigError, InputError
from biod2c_core.model import losses
from biod2c_core.model.backbones.language_kinds import check_language_model
from biod2c_core.model.beyond.answer_words import ANS, AnswerVote, answer_word_log_p
from biod2c_core.model.beyond.assemble import build_fusion
from biod2c_core.model.beyond.attention_guidance import ATT
from biod2c_core.model.configuration import BioD2CConfig
from biod2c_core.model.fusion import ImageEncoding, VisualTokens
from biod2c_core.model.language_input import (
    LanguageInput,
    in_front_of_answers,
    next_token_logits,
    pack,
    put_in_front,
)
from biod2c_core.model.semantic import SEM, fill
from biod2c_core.model.vision import VisionTower, grid_shape

for each in (SEM, ATT, ANS):  # further terms beside L_nll
    losses.register_loss(each)


@dataclass
class BioD2COutput(ModelOutput):
    """What a forward pass gives.

    Attributes:
        loss: L_total, Eq. (5), if labels were given.
        losses: Its terms by name (``nll``, ``sem`` ...), see :mod:`biod2c_core.model.losses`.
        logits: (B, P, vocabulary), of what follows each text token; None in training mode with labels,
            where only those of answer tokens are computed.
        past_key_values: The language model's cache.
        attention: Cross-attention of the fusion decoder, (B, layers, heads, T, M), if asked for.
    """

    loss: Tensor | None = None
    losses: dict[str, Tensor] | None = None
    logits: Tensor | None = None
    past_key_values: Any = None
    attention: Tensor | None = None


class BioD2CForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """The model of the paper around any causal language model of transformers.

    ``generate`` takes the same inputs as ``forward`` and returns only the new tokens.

    Args:
        config: Of all parts.
        language_model: With its weights; by default one of ``config.text_config`` with random ones.
    """

    config: BioD2CConfig
    config_class = BioD2CConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # without loss_counts, the losses are means over the batch
    _supports_sdpa = True
    _supports_flash_attn = True
    _tied_weights_keys: Any = None

    def __init__(self, config: BioD2CConfig, language_model: Any = None) -> None:
        super().__init__(config)
        self.vision = VisionTower(**config.vision)
        check_language_model(config.text_config, "the language model")
        self.language_model = language_model or AutoModelForCausalLM.from_config(config.text_config)
        embedding = self.language_model.get_input_embeddings()
        self.fusion = build_fusion(config, grid_shape(self.vision), embedding.embedding_dim)
        if config.lora:
            self.add_lora(config.lora)
        # a stage of training sets these; lambda of Eq. (5) is the weight of "sem"
        self.loss_weights: dict[str, float] = {"sem": 1.0}
        self.packing = False  # in training, one row without padding
        self.post_init()

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As in transformers, but from safetensors only: other formats can run code when opened.

        Args:
            *args: As in transformers.
            **kwargs: As in transformers.
        """
        kwargs["use_safetensors"] = True
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.vision.restore_buffers()
        model.vision.align()
        return loaded

    def _init_weights(self, module: nn.Module) -> None:
        """Every part initializes itself; transformers must not do it again."""

    def get_input_embeddings(self) -> nn.Module:
        """The language model's token embedding, the encoding function epsilon of section 3.1."""
        return self.language_model.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        """The language model's head."""
        return self.language_model.get_output_embeddings()

    def extend(self, switch: str) -> None:
        """Begin to use an extension of the fusion, in place; nothing changes before training.

        Args:
            switch: Of :data:`biod2c_core.model.beyond.extension.EXTENSIONS`.

        Raises:
            ConfigError: There is no such extension.
        """
        self.fusion.extend(switch)
        if hasattr(self.config, switch):
            setattr(self.config, switch, True)
        elif switch not in self.config.extensions:
            self.config.extensions = (*self.config.extensions, switch)

    def add_lora(self, arguments: dict[str, Any]) -> None:
        """Wrap layers of the language model with LoRA adapters, in place.

        Args:
            arguments: Of ``peft.LoraConfig``: r, lora_alpha, lora_dropout, target_modules ...
        """
        from peft import LoraConfig, inject_adapter_in_model

        try:
            inject_adapter_in_model(LoraConfig(**arguments), self.language_model)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"lora {arguments} does not fit: {error}") from error
        self.config.lora = dict(arguments)

    def merge_lora(self) -> None:
        """Fold the LoRA adapters into the weights they adapt, in place."""
        from peft.tuners.tuners_utils import BaseTunerLayer

        for name, module in list(self.language_model.named_modules()):
            if isinstance(module, BaseTunerLayer):
                module.merge(safe_merge=True)
                parent = self.language_model.get_submodule(name.rpartition(".")[0])
                setattr(parent, name.rpartition(".")[2], module.get_base_layer())
        self.config.lora = None

    def encode_image(
        self, pixel_values: Tensor | None = None, grid_features: Tensor | None = None
    ) -> ImageEncoding:
        """What is known of an image before any question; reuse it for several questions.

        Args:
            pixel_values: (B, 3, H, W), normalized by the processor.
            grid_features: X_v, (B, N, N, D), where the trunk has run before.
        """
        if (pixel_values is None) == (grid_features is None):
            raise InputError("give either pixel_values or grid_features")
        if grid_features is None:
            grid_features = self.vision(pixel_values)
        return self.fusion.encode_image(grid_features.to(self.fusion.queries.dtype))

    def encode(
        self,
        question_ids: Tensor,
        question_mask: Tensor,
        image: ImageEncoding,
        return_attention: bool = False,
        image_rows: Tensor | None = None,
    ) -> VisualTokens:
        """Section 3.1: the visual tokens X_{v|t}; the one path for training and generation.

        Args:
            question_ids: (B, T).
            question_mask: (B, T), 1 where a token is real.
            image: From :meth:`encode_image`.
            return_attention: Keep the cross-attention.
            image_rows: (B,), the row of ``image`` that each question is about; by default its own.
        """
        limit = self.config.num_visual_tokens
        question_ids, question_mask = question_ids[:, :limit], question_mask[:, :limit]
        if self.config.architecture == "released":
            question_ids = fill(question_ids, question_mask, limit, self.config.padding_id)
            question_mask = torch.ones_like(question_ids)
        question = self.get_input_embeddings()(question_ids)
        return self.fusion(image, question, question_mask, return_attention, image_rows)

    def answer_word_log_p(self, visual: VisualTokens, question_mask: Tensor) -> Tensor:
        """:func:`~.beyond.answer_words.answer_word_log_p` of the tokens of :meth:`encode`."""
        embedding = cast("nn.Embedding", self.get_input_embeddings())
        return answer_word_log_p(visual.tokens, question_mask, embedding)

    def vote(self, visual: VisualTokens, question_mask: Tensor) -> AnswerVote | None:
        """The say of the tokens of :meth:`encode` in the answer; None where they have none."""
        weight = self.config.answer_vote
        if not weight:
            return None
        words = self.answer_word_log_p(visual, question_mask)
        return AnswerVote(words, weight, self.generation_config.eos_token_id)

    def embed_prompt(
        self, tokens: Tensor, input_ids: Tensor, attention_mask: Tensor
    ) -> LanguageInput:
        """The visual tokens (B, V, d) in front of the embedded text, (B, P), its begin token before them."""
        text = self.get_input_embeddings()(input_ids)
        return put_in_front(tokens, text, attention_mask, self.config.begin_tokens)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        grid_features: Tensor | None = None,
        image_rows: Tensor | None = None,
        question_ids: Tensor | None = None,
        question_mask: Tensor | None = None,
        queue_ids: Tensor | None = None,
        queue_mask: Tensor | None = None,
        boxes: Tensor | None = None,
        labels: Tensor | None = None,
        loss_counts: dict[str, Tensor] | None = None,
        inputs_embeds: Tensor | None = None,
        position_ids: Tensor | None = None,
        return_attention: bool = False,
        **kwargs: Any,
    ) -> BioD2COutput:
        """Run the model.

        Args:
            input_ids: Prompt and answer, (B, P).
            attention_mask: (B, P), 1 where a token is real.
            pixel_values: (B, 3, H, W); or ``grid_features``, (B, N, N, D).
            grid_features: X_v, where the trunk has run before.
            image_rows: (B,), the image of each row, where several share one; by default its own.
            question_ids: The question alone, (B, T), for the fusion decoder.
            question_mask: (B, T).
            queue_ids: The text queue, (B, k, L), for L_sem.
            queue_mask: (B, k, L).
            boxes: Where the answer is seen, (B, R, 4), for L_att.
            labels: (B, P), the answer's token ids, -100 elsewhere.
            loss_counts: Of :func:`biod2c_core.model.losses.average`; by default of this batch.
            inputs_embeds: Everything already embedded (decoding steps of ``generate``).
            position_ids: Of ``inputs_embeds`` or ``input_ids`` (decoding steps of ``generate``, which
                counts real tokens only because this argument is named).
            return_attention: Return the fusion decoder's cross-attention.
            **kwargs: For the language model (cache ...).

        Returns:
            A :class:`BioD2COutput`.
        """
        if pixel_values is None and grid_features is None:
            result = self.language_model(
                input_ids=input_ids,
                inputs_embeds=inputs_embeds,
                attention_mask=attention_mask,
                position_ids=position_ids,
                **kwargs,
            )
            return BioD2COutput(logits=result.logits, past_key_values=result.past_key_values)

        if input_ids is None or attention_mask is None:
            raise InputError("an image is given, but no input_ids or attention_mask")
        if question_ids is None or question_mask is None:
            raise InputError("an image is given, but no question_ids or question_mask")
        image = self.encode_image(pixel_values, grid_features)
        guided = return_attention or (boxes is not None and labels is not None)
        visual = self.encode(question_ids, question_mask, image, guided, image_rows)
        logits, answered = self._predict(visual.tokens, input_ids, attention_mask, labels)
        output = BioD2COutput(
            logits=logits, attention=visual.attention if return_attention else None
        )
        if labels is not None:
            batch = {
                "labels": labels,
                "question_ids": question_ids,
                "question_mask": question_mask,
                "queue_ids": queue_ids,
                "queue_mask": queue_mask,
                "boxes": boxes,
                "image_rows": image_rows,
            }
            passed = self._pass_for_losses(batch, image, visual, answered)
            output.loss, output.losses = losses.average(passed, self.loss_weights, loss_counts)
        return output

    def _pass_for_losses(
        self,
        batch: dict[str, Tensor | None],
        image: ImageEncoding,
        visual: VisualTokens,
        answered: Tensor,
    ) -> losses.ForwardPass:
        """What the losses read of a forward pass."""
        labels = cast("Tensor", batch["labels"])
        embedding = cast("nn.Embedding", self.get_input_embeddings())
        targets = labels[:, 1:][labels[:, 1:] != -100]
        return losses.ForwardPass(
            self.config, self.fusion, embedding, batch, image, visual, answered, targets
        )

    def _predict(
        self, tokens: Tensor, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None
    ) -> tuple[Tensor | None, Tensor]:
        """Run the language model on visual tokens and text.

        In training, only the logits in front of answer tokens are computed, packed if asked for.

        Returns:
            Logits of what follows each text token, (B, P, vocabulary), or None in training; and those of
            the answer tokens, (n, vocabulary); none without labels.
        """
        given = self.embed_prompt(tokens, input_ids, attention_mask)
        if labels is not None and self.training:
            given = given._replace(answered=in_front_of_answers(given, labels))
            given = pack(given) if self.packing else given
        logits = next_token_logits(self.language_model, given, input_ids.shape[1])
        if given.answered is not None:
            return None, logits[0]
        if labels is None:
            return logits, logits[0, :0]
        return logits, logits[:, :-1][labels[:, 1:] != -100]

    @torch.no_grad()
    def generate(  # type: ignore[override]
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        question_ids: Tensor,
        question_mask: Tensor,
        pixel_values: Tensor | None = None,
        grid_features: Tensor | None = None,
        image: ImageEncoding | None = None,
        image_rows: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Answer with the decoding strategies of transformers.

        Args:
            input_ids: Prompts, (B, P), padded on the left.
            attention_mask: (B, P).
            question_ids: (B, T).
            question_mask: (B, T).
            pixel_values: (B, 3, H, W); or ``grid_features`` or ``image``.
            grid_features: X_v, (B, N, N, D).
            image: From :meth:`encode_image`.
            image_rows: (B,), the image that each row is about, where several share one.
            **kwargs: Of ``transformers.GenerationMixin.generate``.

        Returns:
            New token ids, (B, new), or what ``return_dict_in_generate`` asks for.
        """
        if image is None:
            image = self.encode_image(pixel_values, grid_features)
        visual = self.encode(question_ids, question_mask, image, image_rows=image_rows)
        given = self.embed_prompt(visual.tokens, input_ids, attention_mask)
        vote = self.vote(visual, question_mask)
        if vote is not None:
            others = kwargs.get("logits_processor") or ()
            kwargs["logits_processor"] = LogitsProcessorList([*others, vote])
        return super().generate(  # type: ignore[misc]  # the mixin's protocol wants no forward overload
            inputs_embeds=given.embeddings, attention_mask=given.mask, **kwargs
        )


AutoModel.register(BioD2CConfig, BioD2CForConditionalGeneration)
AutoModelForImageTextToText.register(BioD2CConfig, BioD2CForConditionalGeneration)
