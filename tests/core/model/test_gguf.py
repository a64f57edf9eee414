"""GGUF files: written here as llama.cpp writes them, read as language models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from transformers import AutoModelForCausalLM

from biod2c_core.errors import CheckpointError, MissingDependencyError
from biod2c_core.model.backbones import language_model
from biod2c_core.model.backbones.language_model import load_language_model
from biod2c_core.model.build import build_model
from biod2c_core.model.checkpoints.folder import load_model, load_processor, save_checkpoint
from biod2c_core.training.dry_run import make_plan
from biod2c_core.training.hardware.engines import Engine

gguf = pytest.importorskip("gguf")
PLACES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
IN_BLOCK = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def gguf_name(name: str) -> str:
    if name in PLACES:
        return PLACES[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{IN_BLOCK[rest.removesuffix('.weight')]}.weight"


def write_tokenizer(writer: Any) -> None:
    tokenizer = tiny_models.make_tokenizer()
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([3 if index < 3 else 1 for _, index in vocabulary])
    writer.add_token_merges([" ".join(pair) for pair in content["model"]["merges"]])
    writer.add_pad_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def write_gguf(path: Path, model: Any, quantised: bool) -> None:
    """Rotary halves interleaved, as llama.cpp's converter stores queries and keys."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    write_tokenizer(writer)
    for name, tensor in model.state_dict().items():
        place = gguf_name(name)
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
        kind = place.split(".")[-2]
        if kind in heads:
            halves = tensor.unflatten(0, (heads[kind], 2, -1))
            tensor = halves.transpose(1, 2).flatten(0, 2)
        array = tensor.float().numpy()
        if quantised and array.ndim == 2 and array.shape[1] % 32 == 0:
            packed = gguf.quantize(array, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(place, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(place, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(("quantised", "tolerance"), [(False, 1e-5), (True, 0.05)])
def test_the_model_in_a_gguf_file(
    quantised: bool, tolerance: float, llama: Path, tmp_path: Path
) -> None:
    original = AutoModelForCausalLM.from_pretrained(llama).eval()
    write_gguf(tmp_path / "tiny.gguf", original, quantised)
    settings = tiny_models.model_settings(tmp_path / "tiny.gguf")
    model, processor = build_model(settings, seed=0)
    ids = torch.arange(3, 30)[None]
    with torch.no_grad():
        wanted, got = original(ids).logits, model.language_model(ids).logits
    assert (got - wanted).norm() / wanted.norm() < tolerance
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    plain = tiny_models.make_tokenizer()
    text = "is there a lesion in the left lung?"
    assert processor.tokenizer(text).input_ids == plain(text).input_ids
    assert processor.tokenizer.eos_token_id == 2
    save_checkpoint(tmp_path / "model", model, processor)
    again = load_model(tmp_path / "model").language_model.state_dict()
    for name, value in model.language_model.state_dict().items():
        assert torch.equal(value, again[name])
    loaded = load_processor(tmp_path / "model").tokenizer
    assert loaded(text).input_ids == plain(text).input_ids


def test_a_training_on_a_gguf_file_is_planned(llama: Path, data: Path, tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", AutoModelForCausalLM.from_pretrained(llama), False)
    plans = [
        make_plan(tiny_models.training_config(place), 2, [data], None, 1, Engine(), None)
        for place in (llama, tmp_path / "tiny.gguf")
    ]
    folder, file = [(each.trainable, each.parameters, each.tokens) for each in plans]
    assert file == folder


def test_gguf_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="no language model at"):
        load_language_model(str(tmp_path / "none.gguf"))
    (tmp_path / "text.gguf").write_text("no model")
    with pytest.raises(CheckpointError, match="is not a GGUF file"):
        load_language_model(str(tmp_path / "text.gguf"))
    (tmp_path / "cut.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    with pytest.raises(CheckpointError, match="cannot load the language model") as caught:
        load_language_model(str(tmp_path / "cut.gguf"))
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(language_model.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="needs the package 'gguf'"):
        load_language_model(str(tmp_path / "text.gguf"))
