"""The configuration of the whole model, in transformers' form."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from transformers import AutoConfig, PretrainedConfig

from biod2c_core.errors import ConfigError

SWITCHES = {
    "architecture": ("paper", "released"),
    "fusion": ("on", "off"),
    "semantic_loss": ("paper", "released", "off"),
}


class BioD2CConfig(PretrainedConfig):
    """Configuration of :class:`~biod2c_core.model.modeling.BioD2CForConditionalGeneration`.

    The defaults are the paper's setting (section 4.1 and ``docs/paper-to-code.md``).

    Args:
        vision: Arguments of :class:`~biod2c_core.model.vision.VisionTower`: library, name, levels,
            image_size, normalize.
        text_config: Configuration of the language model (an object, or a dict with ``model_type``).
        num_visual_tokens: V, tokens that enter the language model; also the most question tokens
            the fusion decoder reads.
        scales: S of the multi-scale pooling, or ``"auto"``.
        architecture: ``"paper"``, or ``"released"``: the question is filled to V tokens, which all
            count, as in the weights that the authors published.
        fusion: ``"on"`` or ``"off"`` (Table 2, "w/o fm").
        fusion_layers: Layers of the fusion decoder.
        fusion_heads: Its attention heads.
        fusion_feed_forward: Its feed-forward width.
        fusion_dropout: Its dropout.
        projection_layers: Linear layers of the text MLP and of each projection of Eq. (2), 1 or 2.
        text_hidden: Hidden width of a text MLP of two layers.
        beta_init: Initial gate of Eq. (2).
        encode_positions: Tell the decoder where each block lies (not in the paper).
        normalize_attention: Cross-attention compares directions, as sharply as each head learns
            (not in the paper).
        normalize_queries: So does self-attention, and the decoder's queries are layer-normalised
            (not in the paper).
        mix_neighbours: Each cell of X_v sees its eight neighbours before the fusion (not in the paper).
        read_map: What lies under the map and around it is read once more (not in the paper).
        semantic_loss: ``"paper"`` (Eq. 3 and 4), ``"released"`` (the authors' code) or ``"off"``.
        semantic_temperature: tau of Eq. (3).
        answer_vote: Weight of the words read off the visual tokens in the answer, see
            :mod:`biod2c_core.model.beyond.answer_words` (not in the paper).
        lora: Arguments of ``peft.LoraConfig`` for the language model, or None.
    """

    model_type = "biod2c"
    sub_configs: ClassVar[dict[str, Any]] = {"text_config": AutoConfig}

    def __init__(
        self,
        vision: dict[str, Any] | None = None,
        text_config: PretrainedConfig | dict[str, Any] | None = None,
        num_visual_tokens: int = 32,
        scales: int | Literal["auto"] = "auto",
        architecture: str = "paper",
        fusion: str = "on",
        fusion_layers: int = 12,
        fusion_heads: int = 8,
        fusion_feed_forward: int = 1024,
        fusion_dropout: float = 0.1,
        projection_layers: int = 2,
        text_hidden: int = 2048,
        beta_init: float = 0.2,
        encode_positions: bool = False,
        normalize_attention: bool = False,
        normalize_queries: bool = False,
        mix_neighbours: bool = False,
        read_map: bool = False,
        semantic_loss: str = "paper",
        semantic_temperature: float = 0.1,
        answer_vote: float = 0.0,
        lora: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.vision = vision or {
            "library": "open_clip",
            "name": "RN50",
            "levels": [3],
            "image_size": 512,
        }
        if text_config is None:
            text_config = {"model_type": "llama"}
        if isinstance(text_config, dict):
            text_config = AutoConfig.for_model(**text_config)
        text_config.name_or_path = ""  # a folder of the machine it was made on; nobody reads it
        self.text_config = text_config
        self.num_visual_tokens = num_visual_tokens
        self.scales = scales
        self.architecture = architecture
        self.fusion = fusion
        self.fusion_layers = fusion_layers
        self.fusion_heads = fusion_heads
        self.fusion_feed_forward = fusion_feed_forward
        self.fusion_dropout = fusion_dropout
        self.projection_layers = projection_layers
        self.text_hidden = text_hidden
        self.beta_init = beta_init
        self.encode_positions = encode_positions
        self.normalize_attention = normalize_attention
        self.normalize_queries = normalize_queries
        self.mix_neighbours = mix_neighbours
        self.read_map = read_map
        self.semantic_loss = semantic_loss
        self.semantic_temperature = semantic_temperature
        self.answer_vote = answer_vote
        self.lora = lora
        for name, allowed in SWITCHES.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"{name} is {getattr(self, name)!r}", f"Use one of: {', '.join(allowed)}."
                )
        if not semantic_temperature > 0:
            raise ConfigError(
                f"semantic_temperature is {semantic_temperature}", "It must be above 0."
            )
        for token in ("bos_token_id", "eos_token_id", "pad_token_id"):
            kwargs.setdefault(token, getattr(text_config, token, None))
        kwargs.setdefault("tie_word_embeddings", False)  # the language model ties its own
        kwargs.setdefault("is_encoder_decoder", False)
        super().__init__(**kwargs)


AutoConfig.register(BioD2CConfig.model_type, BioD2CConfig)
