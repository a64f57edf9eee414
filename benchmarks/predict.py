"""How much faster ``biod2c evaluate`` predicts than one question at a time.

    python benchmarks/predict.py [CHECKPOINT]

32 questions about 4 images: together, each image encoded once, against one by one, the image encoded
for each. The texts must be identical first; then both ways are run in turn, and the ratio of their
best process times on one thread is printed. Without a checkpoint, a random model in the shape of the
embedded one answers (its answers are as long as they may be).
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable

import torch
from PIL import Image

from biod2c_core.config import ModelSettings, VisionConfig
from biod2c_core.model.build import build_model
from biod2c_core.model.generation import Answerer

ROUNDS = 3
QUESTIONS = (
    "Is there a fracture?",
    "What modality is this?",
    "Where is the lesion located?",
    "Is the heart enlarged?",
    "Which organ is shown in the image?",
    "How many nodules are there?",
    "Is this a coronal plane?",
    "What is the abnormality in the right upper lobe of the lung?",
)


def random_answerer() -> Answerer:
    """A model with the sizes of the preset ``tiny``."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(QUESTIONS, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        sizes = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6}
        config = LlamaConfig(
            vocab_size=8192, num_attention_heads=8, initializer_range=0.1, eos_token_id=2, **sizes
        )
        LlamaForCausalLM(config).save_pretrained(folder)
        fast.save_pretrained(folder)
        settings = ModelSettings(
            vision=VisionConfig("timm", "efficientnet_lite0", levels=(3, 4), image_size=320),
            language_model=folder,
            fusion_layers=3,
            fusion_feed_forward=864,
            text_hidden=512,
        )
        model, processor = build_model(settings, 0)
    return Answerer(model.eval(), processor, "random", "random")


def one_by_one(answerer: Answerer, images: list[Image.Image]) -> list[str]:
    """Each question alone, its image encoded every time."""
    return [
        answerer.answer([image], [question])[0].text for image in images for question in QUESTIONS
    ]


def together(answerer: Answerer, images: list[Image.Image]) -> list[str]:
    """All questions in one batch, each image encoded once."""
    asked = [(index, question) for index in range(len(images)) for question in QUESTIONS]
    return [answer.text for answer in answerer.answer_images(images, asked)]


def seconds(work: Callable[[], object]) -> float:
    """Process CPU time of a piece of work."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    """Check that the texts are the same, then time both ways in turn."""
    torch.set_num_threads(1)
    answerer = Answerer.load(sys.argv[1], "cpu") if len(sys.argv) > 1 else random_answerer()
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (4, 12, 12, 3), generator=generator, dtype=torch.uint8)
    images = [Image.fromarray(array.numpy()).resize((512, 512)) for array in pixels]
    if together(answerer, images) != one_by_one(answerer, images):
        sys.exit("the two ways do not give the same texts; nothing was measured")
    slow, fast = [], []
    for _ in range(ROUNDS):
        slow.append(seconds(lambda: one_by_one(answerer, images)))
        fast.append(seconds(lambda: together(answerer, images)))
    print(f"one by one {min(slow):.2f} s, together {min(fast):.2f} s: {min(slow) / min(fast):.1f}x")


if __name__ == "__main__":
    main()
