"""The configuration of the whole model, in transformers' form."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import AutoConfig, PretrainedConfig

from biod2c_core.config import ModelSettings, build, names_of, settings_of, switches
from biod2c_core.errors import ConfigError


class BioD2CConfig(PretrainedConfig):
    """Configuration of :class:`~biod2c_core.model.modeling.BioD2CForConditionalGeneration`.

    The defaults are the paper's setting (section 4.1 and ``docs/paper-to-code.md``).

    Its attributes are the parts below and every switch of
    :class:`~biod2c_core.config.ModelSettings`, where their defaults, limits and meaning stand.

    Args:
        vision: Arguments of :class:`~biod2c_core.model.vision.VisionTower`: library, name, levels,
            image_size, normalize.
        text_config: Configuration of the language model (an object, or a dict with ``model_type``).
        lora: Arguments of ``peft.LoraConfig`` for the language model, or None.
        begin_tokens: First tokens of a prompt that stand in front of the visual tokens: the begin token
            of a language model that was trained to meet it first.
        **kwargs: Switches, by their names or former names; the rest is for ``PretrainedConfig``.

    Raises:
        ConfigError: A switch has a value that it cannot have, or ``begin_tokens`` is not a number of tokens.
    """

    model_type = "biod2c"
    sub_configs: ClassVar[dict[str, Any]] = {"text_config": AutoConfig}

    def __init__(
        self,
        vision: dict[str, Any] | None = None,
        text_config: PretrainedConfig | dict[str, Any] | None = None,
        lora: dict[str, Any] | None = None,
        begin_tokens: int = 0,
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
        without_dropout(text_config)
        text_config.name_or_path = ""  # a folder of the machine it was made on; nobody reads it
        self.text_config = text_config
        self.lora = lora
        if type(begin_tokens) is not int or begin_tokens < 0:
            raise ConfigError(
                f"begin_tokens is {begin_tokens!r}", "Expected a whole number, 0 or more."
            )
        self.begin_tokens = begin_tokens
        settings, kwargs = _split(kwargs)
        for name in switches():
            setattr(self, name, getattr(settings, name))
        for token in ("bos_token_id", "eos_token_id", "pad_token_id"):
            kwargs.setdefault(token, getattr(text_config, token, None))
        kwargs.setdefault("tie_word_embeddings", False)  # the language model ties its own
        kwargs.setdefault("is_encoder_decoder", False)
        super().__init__(**kwargs)

    @property
    def padding_id(self) -> int:
        """The language model's padding id; 0 where it has none."""
        return self.text_config.pad_token_id or 0


def without_dropout(text_config: Any) -> None:
    """Set all random noise of a language model in training to zero, in place.

    Its own weights are frozen, so nothing in it could learn from noise; adapters bring their own dropout.
    Full fine-tuning leaves it off too: current language models are made without.

    Args:
        text_config: Its configuration, before the model is built: layers keep what they read there.
    """
    for name, value in list(vars(text_config).items()):
        if isinstance(value, PretrainedConfig):
            without_dropout(value)
        elif ("drop" in name or "jitter" in name) and isinstance(value, float):
            setattr(text_config, name, 0.0)


def _split(given: dict[str, Any]) -> tuple[ModelSettings, dict[str, Any]]:
    """The switches among the arguments, checked and with their defaults; and the other arguments."""
    fields = settings_of(ModelSettings)
    known = {each for name in switches() for each in names_of(name, fields[name])}
    chosen = {name: value for name, value in given.items() if name in known}
    rest = {name: value for name, value in given.items() if name not in known}
    return build(ModelSettings, chosen, ""), rest


AutoConfig.register(BioD2CConfig.model_type, BioD2CConfig)
