"""How the processes of a run share model and work: plain data parallel, DeepSpeed ZeRO, or FSDP."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from biod2c_core.errors import ConfigError, InputError, MissingDependencyError
from biod2c_core.foreign import parse_json, read_text

if TYPE_CHECKING:  # whoever starts the processes asks for the engine, and needs no torch
    from torch import nn

    from biod2c_core.model.modeling import BioD2CForConditionalGeneration

ENGINES = ("single", "ddp", "zero2", "zero3", "deepspeed", "fsdp")


@dataclass(frozen=True)
class Engine:
    """The engine of a run.

    Attributes:
        name: ``single`` (one process), ``ddp`` (each process holds everything), ``zero2`` (optimizer
            and gradients are split), ``zero3`` (weights too), ``deepspeed`` (as its file says) or
            ``fsdp`` (as zero3, without DeepSpeed).
        file: DeepSpeed's configuration, for ``deepspeed``.
    """

    name: Literal["single", "ddp", "zero2", "zero3", "deepspeed", "fsdp"] = "single"
    file: Path | None = None

    @property
    def uses_deepspeed(self) -> bool:
        """Whether DeepSpeed runs the model."""
        return self.name in ("zero2", "zero3", "deepspeed")

    @property
    def splits(self) -> bool:
        """Whether the processes hold different parts of the training state."""
        return self.uses_deepspeed or self.name == "fsdp"

    @property
    def zero_stage(self) -> int:
        """What it splits, as ZeRO counts: 0 nothing, 1 the optimizer, 2 gradients too, 3 weights too.

        Raises:
            ConfigError: DeepSpeed's file cannot be read, or names no such stage.
        """
        if self.file is None:
            return {"zero2": 2, "zero3": 3, "fsdp": 3}.get(self.name, 0)
        section = _read(self.file).get("zero_optimization", {})
        stage = section.get("stage", 0) if isinstance(section, dict) else section
        if stage not in (0, 1, 2, 3):
            raise ConfigError(f"{self.file} asks for the ZeRO stage {stage!r}", "Use 0, 1, 2 or 3.")
        return int(stage)

    @property
    def any_number_resumes(self) -> bool:
        """Whether a checkpoint can be resumed with another number of processes."""
        return self.name in ("single", "ddp")


@dataclass(frozen=True)
class EngineFlags:
    """The engine that the caller asks for; see :func:`choose_engine`.

    Attributes:
        zero: ``--zero``: 0 (plain), 2 or 3.
        deepspeed: ``--deepspeed``.
        fsdp: ``--fsdp``.
    """

    zero: int | None = None
    deepspeed: Path | None = None
    fsdp: bool = False


def choose_engine(
    processes: int,
    on_gpu: bool,
    flags: EngineFlags,
    preset: Literal["auto", 0, 2, 3] = "auto",
    elsewhere: bool = False,
) -> Engine:
    """The engine of a run, for whoever plans, starts or is it.

    A flag wins over the preset. By default several GPUs take ZeRO-2, else it is plain.

    Args:
        processes: Of the whole run.
        on_gpu: Whether it runs on GPUs.
        flags: What the caller asks for.
        preset: ``zero`` of the configuration, which is about several processes.
        elsewhere: The run may be on another machine: what this one lacks does not matter.

    Raises:
        InputError: Flags contradict each other, or a stage does not exist.
        MissingDependencyError: DeepSpeed is needed and absent.
    """
    zero, file = flags.zero, flags.deepspeed
    asked = [flag for flag, given in _given(flags).items() if given]
    if len(asked) > 1:
        raise InputError(f"{' and '.join(asked)} are two engines", "Choose one.")
    if zero not in (None, 0, 2, 3):
        raise InputError(f"--zero is {zero}", "Use 0 (plain data parallel), 2 or 3.")
    plain = Engine("ddp" if processes > 1 else "single")
    if flags.fsdp:
        return Engine("fsdp") if processes > 1 else plain
    if zero is None and processes > 1:
        zero = (2 if on_gpu else 0) if preset == "auto" else preset
    named = {2: Engine("zero2"), 3: Engine("zero3")}
    engine = Engine("deepspeed", file) if file is not None else named.get(zero or 0, plain)
    if engine.uses_deepspeed and not elsewhere and find_spec("deepspeed") is None:
        raise MissingDependencyError("deepspeed", "train")
    return engine


def _given(flags: EngineFlags) -> dict[str, bool]:
    return {
        f"--zero {flags.zero}": flags.zero is not None,
        "--deepspeed": flags.deepspeed is not None,
        "--fsdp": flags.fsdp,
    }


def engine_arguments(
    engine: Engine, on_cpu: bool, bf16: bool, language_model: nn.Module
) -> dict[str, Any]:
    """What ``transformers.TrainingArguments`` needs for an engine.

    Args:
        engine: The engine.
        on_cpu: Whether the processes compute on the CPU.
        bf16: Mixed precision.
        language_model: Its decoder layers are FSDP's units.
    """
    if engine.name == "ddp":
        return {"ddp_find_unused_parameters": False, "ddp_backend": "gloo" if on_cpu else "nccl"}
    if engine.name == "fsdp":
        return {
            "fsdp": True,
            "fsdp_config": _fsdp_config(language_model),
            "ddp_backend": "gloo" if on_cpu else "nccl",
        }
    if not engine.uses_deepspeed:
        return {}
    if on_cpu:
        use_no_compiled_operators()
    config = _read(engine.file) if engine.file else deepspeed_config(engine.name, bf16)
    return {"deepspeed": config, "ddp_backend": "gloo" if on_cpu else "nccl"}


def deepspeed_config(name: str, bf16: bool) -> dict[str, Any]:
    """ZeRO-2 or ZeRO-3 without offload; batch sizes and clipping are the run's own.

    The optimizer is the run's AdamW of torch, with the same groups of parameters as in one process,
    so that DeepSpeed compiles nothing.
    """
    return {
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "train_batch_size": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": bf16},
        "zero_optimization": {
            "stage": int(name[-1]),
            "contiguous_gradients": True,
            "stage3_gather_16bit_weights_on_model_save": True,
        },
        "steps_per_print": 2**31,
    }


def _read(file: Path) -> dict[str, Any]:
    try:
        config = parse_json(read_text(file))
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}", "Check --deepspeed.") from error
    except ValueError as error:
        raise ConfigError(f"{file} is not JSON ({error})", "Check --deepspeed.") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{file} is not a JSON object", "Check --deepspeed.")
    return config


def _fsdp_config(language_model: nn.Module) -> dict[str, Any]:
    units = sorted(getattr(language_model, "_no_split_modules", None) or [])
    present = {type(module).__name__ for module in language_model.modules()}
    return {
        "version": 2,
        "reshard_after_forward": True,
        "state_dict_type": "SHARDED_STATE_DICT",
        "transformer_layer_cls_to_wrap": [name for name in units if name in present],
    }


def fit_to_engine(model: BioD2CForConditionalGeneration, engine: Engine) -> list[str]:
    """Change what the engines that split a model cannot hold, in place.

    Scalar parameters become vectors of one. And ZeRO-3 learns that the fusion's queries are used
    outside the module that owns them, or it takes them away before their gradient comes.

    Returns:
        The names of the parameters that were scalars.
    """
    if not engine.splits:
        return []
    from torch import nn

    names = [name for name, parameter in model.named_parameters() if parameter.dim() == 0]
    for name in names:
        parent, _, last = name.rpartition(".")
        scalar = model.get_parameter(name)
        vector = nn.Parameter(scalar.data.reshape(1), requires_grad=scalar.requires_grad)
        setattr(model.get_submodule(parent), last, vector)
    if engine.uses_deepspeed:
        import deepspeed

        deepspeed.zero.register_external_parameter(model, model.fusion.queries)
    return names


def use_no_compiled_operators() -> None:
    """Let DeepSpeed on the CPU work without a compiler: gloo, and none of its own kernels."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.setdefault("DS_SKIP_CUDA_CHECK", "1")
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
