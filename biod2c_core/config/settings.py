"""What can be set: the settings of a model and its training, each with its default, limits and meaning.

A setting stands here once. Its type, default and limits are pydantic's, checked whenever settings are
made; what a :class:`Switch` says of it is read wherever a checkpoint and a preset meet. To rename a
setting, rename its field and add ``validation_alias=AliasChoices(NEW, OLD)``: presets, ``--set`` and the
``config.json`` of older checkpoints may go on using the old name.
"""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    StrictBool,
    StrictInt,
    StrictStr,
)
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo


def _number(value: Any) -> Any:
    """YAML reads 5e-5 as text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _word(value: Any) -> Any:
    """YAML reads a bare on or off as a boolean."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


Number = Annotated[float, Strict(), BeforeValidator(_number)]
Auto = Literal["auto"]
_WORD = BeforeValidator(_word)
STRICT = ConfigDict(extra="forbid")


@plain_dataclass(frozen=True)
class Switch:
    """What is known of a setting of the model beside its type, default and limits.

    Attributes:
        checkpoint: What becomes of it where training starts from a checkpoint: the checkpoint
            ``decides``; it ``may begin`` in one that does not have it; or it is ``open``, that is the
            run's own.
        beyond: What the field calls it, where it is not in the paper.
    """

    checkpoint: Literal["decides", "may begin", "open"] = "decides"
    beyond: str = ""


@dataclass(frozen=True, config=STRICT)
class VisionConfig:
    """The vision tower; see ``biod2c_core.model.vision.VisionTower``."""

    library: StrictStr = Field(
        default="open_clip",
        description="Where the tower comes from: timm, open_clip, or one that another package has "
        "registered.",
    )
    name: StrictStr = Field(
        default="RN50",
        description="The model's name in that library; for open_clip also hf-hub:OWNER/MODEL or "
        "local-dir:FOLDER, which bring their weights.",
    )
    levels: tuple[StrictInt, ...] | Auto = Field(
        default=(3,),
        description="Stages of the pyramid, from 0; or auto, the last one of stride 16.",
    )
    image_size: Annotated[StrictInt, Field(ge=1, le=2048)] | Auto = Field(
        default=512, description="Side of the square input, pixels; or auto, the tower's own."
    )
    normalize: StrictBool = Field(
        default=False, description="Layer-normalize each level over its channels."
    )
    mean: tuple[Number, ...] | Auto = Field(
        default=(0.485, 0.456, 0.406),
        description="Mean of the RGB channels, in [0, 1]; or auto, the tower's own.",
    )
    std: tuple[Number, ...] | Auto = Field(
        default=(0.229, 0.224, 0.225),
        description="Standard deviation of the RGB channels; or auto.",
    )
    weights: StrictStr = Field(
        default="",
        description="File or folder of the weights, of the trunk, the whole model or a CLIP "
        "checkpoint; or empty for random weights.",
    )


@dataclass(frozen=True, config=STRICT)
class LoraSettings:
    """LoRA adapters of the language model (stage 2)."""

    r: StrictInt = Field(default=8, ge=1, le=16_384, description="Rank.")
    alpha: StrictInt = Field(
        default=32, description="Scale; the update is multiplied by alpha / r."
    )
    dropout: Number = Field(
        default=0.1, ge=0, le=0.99, description="Dropout in front of the adapters."
    )
    targets: tuple[StrictStr, ...] | Auto = Field(
        default=("q_proj", "v_proj"),
        description="Names of the layers to adapt; or auto, the attention's projections.",
    )


@dataclass(frozen=True, config=STRICT)
class ModelSettings:
    """A model: its parts, then its switches, which are the arguments of ``BioD2CConfig`` as well."""

    vision: VisionConfig = Field(default=VisionConfig(), description="The vision tower.")
    language_model: StrictStr = Field(
        default="", description="Folder or hub name of a causal language model with its tokenizer."
    )
    lora: Annotated[LoraSettings, Switch("may begin")] = Field(
        default=LoraSettings(), description="Adapters of stage 2."
    )
    prompt: StrictStr = Field(
        default="Question: {question} Answer:",
        description="Template around the question; or chat, the language model's own chat template.",
    )
    num_visual_tokens: StrictInt = Field(
        default=32,
        ge=1,
        le=4096,
        description="V, tokens that enter the language model; also the most question tokens that "
        "the fusion decoder reads.",
    )
    scales: Annotated[StrictInt, Field(ge=1, le=16)] | Auto = Field(
        default="auto", description="S of the multi-scale pooling; or auto, down to single cells."
    )
    architecture: Literal["paper", "released"] = Field(
        default="paper",
        description="paper; or released, where the question is filled to V tokens, which all count, "
        "as in the weights that the authors published.",
    )
    fusion: Annotated[Literal["on", "off"], _WORD] = Field(
        default="on", description="off leaves out the gated term of Eq. (2) (Table 2, w/o fm)."
    )
    fusion_layers: StrictInt = Field(
        default=12, ge=1, le=512, description="Layers of the fusion decoder."
    )
    fusion_heads: StrictInt = Field(default=8, ge=1, le=2048, description="Its attention heads.")
    fusion_feed_forward: StrictInt = Field(
        default=1024, ge=1, le=131_072, description="Its feed-forward width."
    )
    fusion_dropout: Annotated[Number, Switch("open")] = Field(
        default=0.1, ge=0, le=0.99, description="Its dropout."
    )
    projection_layers: StrictInt = Field(
        default=2,
        ge=1,
        le=2,
        description="Linear layers of the text MLP and of each projection of Eq. (2).",
    )
    text_hidden: StrictInt = Field(
        default=2048, ge=1, le=131_072, description="Hidden width of a text MLP of two layers."
    )
    beta_init: Number = Field(default=0.2, description="Initial gate of Eq. (2).")
    encode_positions: Annotated[
        StrictBool, Switch(beyond="sine-cosine position encoding of boxes")
    ] = Field(default=False, description="Tell the decoder where each block lies.")
    qk_norm: Annotated[
        StrictBool, Switch(beyond="query-key normalization (QK-norm) of cross-attention")
    ] = Field(
        default=False,
        validation_alias=AliasChoices("qk_norm", "normalize_attention"),
        description="Cross-attention compares directions, as sharply as each head learns.",
    )
    qk_norm_queries: Annotated[
        StrictBool, Switch(beyond="QK-norm of self-attention, pre-norm of the queries")
    ] = Field(
        default=False,
        validation_alias=AliasChoices("qk_norm_queries", "normalize_queries"),
        description="Self-attention compares directions too, and the decoder's queries are "
        "layer-normalized.",
    )
    mix_neighbours: Annotated[
        StrictBool, Switch("may begin", beyond="residual 3 x 3 convolution, zero-initialized")
    ] = Field(
        default=False, description="Each cell of X_v sees its eight neighbours before the fusion."
    )
    attention_readout: Annotated[
        StrictBool, Switch("may begin", beyond="attention-weighted pooling, zero-initialized")
    ] = Field(
        default=False,
        validation_alias=AliasChoices("attention_readout", "read_map"),
        description="What lies under the attention map and around it is read once more.",
    )
    extensions: Annotated[tuple[StrictStr, ...], Switch("may begin")] = Field(
        default=(),
        description="Extensions of the fusion that another package has registered, by name.",
    )
    semantic_loss: Annotated[Literal["paper", "released", "off"], _WORD, Switch("open")] = Field(
        default="paper", description="paper (Eq. 3 and 4), released (the authors' code) or off."
    )
    semantic_temperature: Number = Field(default=0.1, ge=1e-4, description="tau of Eq. (3).")
    answer_vote: Annotated[Number, Switch("open", beyond="product of experts")] = Field(
        default=0.0,
        ge=0,
        description="Weight of the words read off the visual tokens in the answer; L_ans of a "
        "stage trains them.",
    )


@dataclass(frozen=True, config=STRICT)
class StageSettings:
    """How one stage is trained."""

    train: Literal["lora", "full"] = Field(
        default="lora",
        description="What stage 2 trains of the language model: lora, adapters of it; full, all of its "
        "own weights, which base_weights must leave in float32.",
    )
    learning_rate: Number = Field(default=2e-5, ge=0, description="Peak learning rate of AdamW.")
    language_learning_rate: Annotated[Number, Field(ge=0)] | Auto = Field(
        default="auto",
        description="That of the language model, adapters or all of it (stage 2); auto is "
        "learning_rate.",
    )
    epochs: Number = Field(default=1.0, ge=0, description="Passes over the data.")
    max_steps: StrictInt = Field(
        default=0, ge=0, description="Stop after so many optimizer steps; 0 for no limit."
    )
    batch_size: StrictInt = Field(default=8, ge=1, description="Samples a step and process.")
    questions_per_image: StrictInt = Field(
        default=1,
        ge=1,
        description="Most questions about one image that stay together in a batch, so that the "
        "image is encoded once for them.",
    )
    gradient_accumulation: StrictInt = Field(
        default=1, ge=1, description="Steps whose gradients are added before an update."
    )
    weight_decay: Number = Field(
        default=1e-3,
        ge=0,
        description="Of AdamW; matrices alone decay, neither norms and biases nor beta and the learned "
        "queries.",
    )
    warmup_ratio: Number = Field(
        default=0.03,
        ge=0,
        le=0.99,
        description="Share of the steps in which the learning rate rises.",
    )
    schedule: Literal["cosine", "linear", "constant"] = Field(
        default="cosine", description="How the learning rate goes on from its peak."
    )
    max_grad_norm: Number = Field(
        default=1.0, ge=0, description="Gradients are clipped to this norm."
    )
    semantic_weight: Number = Field(default=1.0, ge=0, description="lambda of Eq. (5).")
    attention_weight: Number = Field(
        default=0.0,
        ge=0,
        description="Of L_att, which draws the fusion decoder's attention into the boxes of the "
        "records that have some (not in the paper).",
    )
    answer_weight: Number = Field(
        default=0.0,
        ge=0,
        description="Of L_ans, which has the visual tokens alone name the answer's words (not in "
        "the paper).",
    )
    loss_weights: dict[StrictStr, Number] = Field(
        default_factory=dict,
        description="Of losses that another package has registered, by name.",
    )
    queue_size: StrictInt = Field(
        default=30, ge=0, description="k, texts of the queue that are used."
    )
    bf16: StrictBool = Field(default=True, description="Mixed precision in bfloat16.")
    base_weights: Literal["float32", "bfloat16", "nf4"] = Field(
        default="float32",
        description="How the language model's own, frozen weights are held; nf4 is four bits "
        "(QLoRA). bfloat16 and nf4 need bf16 and train=lora.",
    )
    gradient_checkpointing: StrictBool = Field(
        default=False, description="Recompute activations of the language model."
    )
    packing: StrictBool = Field(
        default=False,
        description="Lay the samples of a batch side by side without padding (varlen attention; a "
        "GPU and the package flash-attn).",
    )
    liger: StrictBool = Field(
        default=False,
        description="Fused kernels of the language model (a GPU and the package liger-kernel).",
    )
    cache_features: StrictBool = Field(
        default=False,
        description="Keep the frozen trunk's features on disk instead of computing them again.",
    )
    feature_type: Literal["float16", "bfloat16", "float8"] = Field(
        default="float16",
        description="How features are kept on disk; float8 (e4m3, a scale for each image) takes half "
        "of the space.",
    )
    workers: Annotated[StrictInt, Field(ge=0)] | Auto = Field(
        default="auto",
        description="Processes that read pictures ahead of the training, of each of its processes; "
        "auto: none on CPU; on GPUs, all cores but one for each process, up to eight.",
    )
    log_every: StrictInt = Field(default=10, ge=1, description="Steps between log lines.")
    save_every: StrictInt = Field(
        default=0, ge=0, description="Steps between checkpoints; 0 saves at the end of each epoch."
    )
    keep: StrictInt = Field(default=2, ge=0, description="Checkpoints to keep; 0 keeps all.")
    validate_every: StrictInt = Field(
        default=0, ge=0, description="Steps between validations; 0 validates after each epoch."
    )
    select_patience: StrictInt = Field(
        default=0,
        ge=0,
        description="Validations in a row without a better one that end the run; 0 for no end.",
    )
    ema_decay: Number = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Of a moving average of the trained weights, which is validated and exported in "
        "their place; 0 for none.",
    )
    max_loss: Number = Field(
        default=1000.0, ge=0, description="A larger loss of a batch stops the run; 0 for no limit."
    )
    seed: StrictInt = Field(
        default=0, ge=0, le=2**32 - 1, description="Seed of the data order and of dropout."
    )


@dataclass(frozen=True, config=STRICT)
class TrainingConfig:
    """A preset: the model and its two stages."""

    model: ModelSettings = Field(
        default=ModelSettings(), description="The parts of the model and its switches."
    )
    stage1: StageSettings = Field(
        default=StageSettings(), description="How the first stage is trained."
    )
    stage2: StageSettings = Field(default=StageSettings(), description="How the second one is.")
    zero: Annotated[Literal["auto", 0, 2, 3], _WORD] = Field(
        default="auto",
        description="DeepSpeed's ZeRO stage on several processes (0: plain data parallel); auto is "
        "2 on GPUs and 0 on CPUs.",
    )

    def stage(self, number: int) -> StageSettings:
        """The settings of stage 1 or 2."""
        return self.stage1 if number == 1 else self.stage2


def settings_of(kind: Any) -> dict[str, FieldInfo]:
    """The fields of a class of settings by name."""
    return dict(kind.__pydantic_fields__)


def names_of(name: str, field: FieldInfo) -> tuple[str, ...]:
    """The name of a setting, then its former ones."""
    known = field.validation_alias
    former = known.choices if isinstance(known, AliasChoices) else []
    return (name, *(str(each) for each in former if each != name))


def current_name(kind: Any, name: str) -> str:
    """The name of a setting that goes by this name now; the name itself if none does."""
    fields = settings_of(kind).items()
    return next((each for each, field in fields if name in names_of(each, field)), name)


_PARTS = ("vision", "language_model", "lora", "prompt")  # with configurations of their own


def switches() -> dict[str, Switch]:
    """The switches of a model: what ``BioD2CConfig`` holds beside the parts, by name."""
    return {name: of_switch(name) for name in settings_of(ModelSettings) if name not in _PARTS}


def of_switch(name: str) -> Switch:
    """What is known of a setting of :class:`ModelSettings`."""
    metadata = settings_of(ModelSettings)[name].metadata
    return next((each for each in metadata if isinstance(each, Switch)), Switch())
