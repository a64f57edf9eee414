"""BioD2C, assembled as in section 3: vision tower, feature fusion, language model, two losses.

Notation used for tensor shapes:

- B: batch, P: prompt and answer tokens, T: question tokens, V: visual tokens, N: side of the grid,
  D: width of the image features, d: width of the language model, k: queue texts, L: their tokens
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
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
from biod2c_core.model import equations
from biod2c_core.model.beyond.answer_words import Vote, answer_words_loss, read_words
from biod2c_core.model.beyond.attention_guidance import attention_loss
from biod2c_core.model.configuration import BioD2CConfig
from biod2c_core.model.fusion import FeatureFusion, ImageEncoding, VisualTokens
from biod2c_core.model.semantic import SemanticConsistency
from biod2c_core.model.vision import VisionTower, grid_shape


@dataclass
class BioD2COutput(ModelOutput):
    """What a forward pass gives.

    Attributes:
        loss: L_total, Eq. (5), if labels were given; and L_att and L_ans where they are wanted.
        loss_nll: L_nll.
        loss_sem: L_sem, Eq. (4), if a queue was given.
        loss_att: L_att of :func:`~.beyond.attention_guidance.attention_loss`, if boxes were given.
        loss_ans: L_ans of :func:`~.beyond.answer_words.answer_words_loss`, if it has a weight.
        logits: (B, P, vocabulary), at the text positions; None in training mode with labels, where
            only those in front of answer tokens are computed.
        past_key_values: The language model's cache.
        attention: Cross-attention of the fusion decoder, (B, layers, heads, T, M), if asked for.
    """

    loss: Tensor | None = None
    loss_nll: Tensor | None = None
    loss_sem: Tensor | None = None
    loss_att: Tensor | None = None
    loss_ans: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: Any = None
    attention: Tensor | None = None


class BioD2CForConditionalGeneration(SemanticConsistency, PreTrainedModel, GenerationMixin):
    """The model of the paper around any causal language model of transformers.

    ``generate`` takes the same inputs as ``forward`` and returns only the new tokens.
    """

    config_class = BioD2CConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # the loss is a batch's mean: Trainer divides it when accumulating
    _supports_sdpa = True
    _supports_flash_attn = True
    _tied_weights_keys: Any = None

    def __init__(self, config: BioD2CConfig) -> None:
        super().__init__(config)
        self.vision = VisionTower(**config.vision)
        if getattr(config.text_config, "is_encoder_decoder", False):
            raise ConfigError(
                f"{config.text_config.model_type!r} is an encoder-decoder model",
                "BioD2C needs a causal (decoder-only) language model.",
            )
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        embedding = self.language_model.get_input_embeddings()
        self.fusion = FeatureFusion(
            grid=grid_shape(self.vision),
            text_width=embedding.embedding_dim,
            num_visual_tokens=config.num_visual_tokens,
            scales=config.scales,
            layers=config.fusion_layers,
            heads=config.fusion_heads,
            feed_forward=config.fusion_feed_forward,
            dropout=config.fusion_dropout,
            projection_layers=config.projection_layers,
            text_hidden=config.text_hidden,
            beta_init=config.beta_init,
            encode_positions=config.encode_positions,
            normalize_attention=config.normalize_attention,
            normalize_queries=config.normalize_queries,
            mix_neighbours=config.mix_neighbours,
            read_map=config.read_map,
            enabled=config.fusion == "on",
        )
        if config.lora:
            self.add_lora(config.lora)
        self.semantic_weight = 1.0  # lambda of Eq. (5); a stage of training sets it
        self.packing = False  # in training, one row without padding; a stage sets it
        self.attention_weight = 0.0  # of L_att, likewise
        self.answer_weight = 0.0  # of L_ans, likewise
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
        return loaded

    def _init_weights(self, module: nn.Module) -> None:
        """Every part initialises itself; transformers must not do it again."""

    def get_input_embeddings(self) -> nn.Module:
        """The language model's token embedding, the encoding function epsilon of section 3.1."""
        return self.language_model.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        """The language model's head."""
        return self.language_model.get_output_embeddings()

    def mix_neighbours(self) -> None:
        """Begin to show each cell of X_v its neighbours, in place; nothing changes before training."""
        self.fusion.mix_neighbours()
        self.config.mix_neighbours = True

    def read_map(self) -> None:
        """Begin to read what lies under the map once more, in place, likewise."""
        self.fusion.read_map()
        self.config.read_map = True

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
            pixel_values: (B, 3, H, W), normalised by the processor.
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
            question_ids = self.fill(question_ids, question_mask)
            question_mask = torch.ones_like(question_ids)
        question = self.get_input_embeddings()(question_ids)
        return self.fusion(image, question, question_mask, return_attention, image_rows)

    def read_words(self, visual: VisualTokens, question_mask: Tensor) -> Tensor:
        """What :func:`~.beyond.answer_words.read_words` reads off the tokens of :meth:`encode`."""
        embedding = cast("nn.Embedding", self.get_input_embeddings())
        return read_words(visual.tokens, question_mask, embedding)

    def voter(self, visual: VisualTokens, question_mask: Tensor) -> Vote | None:
        """The say of the tokens of :meth:`encode` in the answer; None where they have none."""
        weight = self.config.answer_vote
        if not weight:
            return None
        words = self.read_words(visual, question_mask)
        return Vote(words, weight, self.generation_config.eos_token_id)

    def embed_prompt(
        self, tokens: Tensor, input_ids: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Put the visual tokens in front of the text.

        Returns:
            Embeddings (B, V + P, d) and their mask (B, V + P).
        """
        text = self.get_input_embeddings()(input_ids)
        embeddings = torch.cat([tokens.to(text.dtype), text], dim=1)
        seen = attention_mask.new_ones(tokens.shape[:2])
        return embeddings, torch.cat([seen, attention_mask], dim=1)

    @contextmanager
    def _logits_only_at(self, positions: Tensor | None) -> Iterator[None]:
        """Within the block, the language model's head sees only some positions, as (1, n, d).

        Hiding the others from the head itself, rather than calling it apart, keeps whatever a
        language model does to its logits afterwards (scaling, capping).

        Args:
            positions: (B, V + P), bool; None for all.
        """
        if positions is None:
            yield
            return
        head = self.get_output_embeddings()
        handle = head.register_forward_pre_hook(
            lambda module, inputs: (inputs[0][positions].unsqueeze(0), *inputs[1:])
        )
        try:
            yield
        finally:
            handle.remove()

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
            image_rows: (B,), the image that each row is about, where several share one; by default
                there is an image a row.
            question_ids: The question alone, (B, T), for the fusion decoder.
            question_mask: (B, T).
            queue_ids: The text queue, (B, k, L), for L_sem.
            queue_mask: (B, k, L).
            boxes: Where the answer is seen, (B, R, 4), for L_att.
            labels: (B, P), the answer's token ids, -100 elsewhere.
            inputs_embeds: Everything already embedded (decoding steps of ``generate``).
            position_ids: Of ``inputs_embeds`` or ``input_ids`` (decoding steps of ``generate``, which
                counts the real tokens only because this argument is named here: padding lies
                between image and text and must not move them apart).
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
        guided = boxes is not None and labels is not None
        visual = self.encode(
            question_ids, question_mask, image, return_attention or guided, image_rows
        )
        embeddings, mask = self.embed_prompt(visual.tokens, input_ids, attention_mask)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        seen: Tensor | None = mask
        answered = None
        if labels is not None and self.training:  # training reads no other logits
            answered = F.pad(labels[:, 1:] != -100, (visual.tokens.shape[1], 1))
            if self.packing:  # without a mask, transformers parts samples where positions restart
                real, seen = mask.bool(), None
                embeddings, positions, answered = (
                    each[real].unsqueeze(0) for each in (embeddings, positions, answered)
                )
        with self._logits_only_at(answered):
            result = self.language_model(
                inputs_embeds=embeddings,
                attention_mask=seen,
                position_ids=positions,
                use_cache=False,
            )
        logits = None if answered is not None else result.logits[:, visual.tokens.shape[1] :]
        output = BioD2COutput(
            logits=logits, attention=visual.attention if return_attention else None
        )
        if labels is not None:
            if logits is not None:
                output.loss_nll = equations.negative_log_likelihood(logits, labels)
            else:
                targets = labels[:, 1:][labels[:, 1:] != -100]
                output.loss_nll = equations.answer_negative_log_likelihood(
                    result.logits[0], targets
                )
            output.loss = output.loss_nll
            if (
                queue_ids is not None
                and queue_mask is not None
                and self.config.semantic_loss != "off"
            ):
                texts = (question_ids, question_mask, queue_ids, queue_mask)
                if self.config.semantic_loss == "released":
                    before = image.tokens if image_rows is None else image.tokens[image_rows]
                    output.loss_sem = self.released_semantic_loss(before, *texts)
                else:
                    output.loss_sem = self.semantic_loss(visual.tokens, *texts)
                output.loss = equations.total_loss(
                    output.loss_nll, output.loss_sem, self.semantic_weight
                )
            if boxes is not None and visual.attention is not None:
                output.loss_att = attention_loss(
                    visual.attention, question_mask, boxes, self.fusion.scales, self.fusion.grid
                )
                output.loss = output.loss + self.attention_weight * output.loss_att
            if self.answer_weight:
                words = self.read_words(visual, question_mask)
                output.loss_ans = answer_words_loss(words, labels)
                output.loss = output.loss + self.answer_weight * output.loss_ans
        return output

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
        embeddings, mask = self.embed_prompt(visual.tokens, input_ids, attention_mask)
        vote = self.voter(visual, question_mask)
        if vote is not None:
            given = kwargs.get("logits_processor") or ()
            kwargs["logits_processor"] = LogitsProcessorList([*given, vote])
        return super().generate(  # type: ignore[misc]  # the mixin's protocol wants no forward overload
            inputs_embeds=embeddings, attention_mask=mask, **kwargs
        )


AutoModel.register(BioD2CConfig, BioD2CForConditionalGeneration)
AutoModelForImageTextToText.register(BioD2CConfig, BioD2CForConditionalGeneration)
