"""Random models of five families of transformers, a few kilobytes each, saved as their authors save them."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from tiny_models import make_tokenizer
from transformers import PreTrainedTokenizerFast

MARKS = ["<image>", "<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
MARKS += ["<fake_token_around_image>", "<end_of_utterance>", "<global-img>", "<start_of_image>"]
MARKS += ["<end_of_image>", "<image_soft_token>", *(f"<loc{i:04d}>" for i in range(2))]
CHAT = (
    "{{ bos_token }}{% for m in messages %}{{ m.role }}: {% for part in m.content %}"
    "{% if part.type == 'image' %}MARK{% else %}{{ part.text }}{% endif %}{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
SIDE = 28


def tokenizer(**named: str) -> PreTrainedTokenizerFast:
    """The tokenizer of the other tests with every mark of an image as one token."""
    made = deepcopy(make_tokenizer())
    made.add_special_tokens({"additional_special_tokens": MARKS})
    if named:
        made = PreTrainedTokenizerFast(
            tokenizer_object=made.backend_tokenizer,
            pad_token="<pad>",
            bos_token="<s>",
            eos_token="</s>",
            extra_special_tokens=named,
        )
    return made


def sizes(**changes: Any) -> dict[str, Any]:
    """Of a language model of two layers."""
    return {
        "vocab_size": len(tokenizer()),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "initializer_range": 0.3,
        **changes,
    }


def tower(**changes: Any) -> dict[str, Any]:
    """Of a vision tower of one layer."""
    return {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": 7,
        "initializer_range": 0.3,
        **changes,
    }


def qwen() -> tuple[Any, Any]:
    tok = tokenizer()
    ids = {n: tok.convert_tokens_to_ids(f"<|{n}|>") for n in ("image_pad", "video_pad")}
    config = tf.Qwen2_5_VLConfig(
        text_config=sizes(
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [1, 1, 2],
            }
        ),
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_heads": 2,
            "out_hidden_size": 32,
            "patch_size": 7,
            "window_size": 28,
            "fullatt_block_indexes": [0],
        },
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=tok.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tok.convert_tokens_to_ids("<|vision_end|>"),
    )
    pixels = {"shortest_edge": 28 * 28, "longest_edge": 42 * 42}
    shape = {"patch_size": 7, "merge_size": 2, "size": pixels}
    processor = tf.Qwen2_5_VLProcessor(
        tf.Qwen2VLImageProcessor(**shape),
        tok,
        tf.Qwen2VLVideoProcessor(**shape),
        chat_template=CHAT.replace("MARK", "<|vision_start|><|image_pad|><|vision_end|>"),
    )
    return tf.Qwen2_5_VLForConditionalGeneration(config), processor


def llava() -> tuple[Any, Any]:
    tok = tokenizer()
    config = tf.LlavaConfig(
        text_config=tf.LlamaConfig(**sizes()),
        vision_config=tf.CLIPVisionConfig(**tower(num_hidden_layers=2)),
        image_token_index=tok.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
    )
    square = {"height": SIDE, "width": SIDE}
    processor = tf.LlavaProcessor(
        tf.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=square),
        tok,
        patch_size=7,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT.replace("MARK", "<image>\n"),
    )
    return tf.LlavaForConditionalGeneration(config), processor


def idefics() -> tuple[Any, Any]:
    tok = tokenizer()
    config = tf.Idefics3Config(
        text_config=tf.LlamaConfig(**sizes()),
        vision_config=tower(),
        image_token_id=tok.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=0,
    )
    processor = tf.Idefics3Processor(
        tf.Idefics3ImageProcessor(
            size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE}
        ),
        tok,
        image_seq_len=4,
        chat_template=CHAT.replace("MARK", "<image>"),
    )
    return tf.Idefics3ForConditionalGeneration(config), processor


def paligemma() -> tuple[Any, Any]:
    tok = tokenizer()
    config = tf.PaliGemmaConfig(
        text_config={"model_type": "gemma", "head_dim": 8, **sizes()},
        vision_config=tower(model_type="siglip_vision_model", projection_dim=32),
        image_token_index=tok.convert_tokens_to_ids("<image>"),
        projection_dim=32,
        hidden_size=32,
    )
    images = tf.SiglipImageProcessor(size={"height": SIDE, "width": SIDE})
    images.image_seq_length = 16
    model = tf.PaliGemmaForConditionalGeneration(config)
    return model, tf.PaliGemmaProcessor(images, tok)


def gemma() -> tuple[Any, Any]:
    named = {"boi": "<start_of_image>", "eoi": "<end_of_image>", "image": "<image_soft_token>"}
    tok = tokenizer(**{f"{name}_token": text for name, text in named.items()})
    config = tf.Gemma3Config(
        text_config={"head_dim": 8, "sliding_window": 64, **sizes(tie_word_embeddings=False)},
        tie_word_embeddings=False,
        vision_config=tower(),
        mm_tokens_per_image=4,
        boi_token_index=tok.boi_token_id,
        eoi_token_index=tok.eoi_token_id,
        image_token_index=tok.image_token_id,
    )
    processor = tf.Gemma3Processor(
        tf.Gemma3ImageProcessor(size={"height": SIDE, "width": SIDE}),
        tok,
        image_seq_length=4,
        chat_template=CHAT.replace("MARK", "<start_of_image>"),
    )
    return tf.Gemma3ForConditionalGeneration(config), processor


FAMILIES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "qwen2.5-vl": qwen,
    "llava": llava,
    "idefics3": idefics,
    "paligemma": paligemma,
    "gemma3": gemma,
}


def save(family: str, folder: Path) -> Path:
    """A model with its processor, as ``save_pretrained`` writes them."""
    torch.manual_seed(1)
    model, processor = FAMILIES[family]()
    with torch.no_grad():
        for weight in model.parameters():  # some are zero at first, and images would not matter
            if weight.dim() > 1:
                weight.normal_(0, 0.3)
    model.generation_config.eos_token_id = 2
    model.generation_config.pad_token_id = 0
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
