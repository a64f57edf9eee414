"""Other answers that the model considered, by beam search, each with its confidence."""

from __future__ import annotations

from dataclasses import replace

import torch

from biod2c_core.inference.forced_decoding import score_answer
from biod2c_core.model.fusion import ImageEncoding
from biod2c_core.model.generation import MAX_NEW_TOKENS, Answer, Answerer, probability


@torch.inference_mode()
def other_answers(
    answerer: Answerer, image: ImageEncoding, question: str, given: Answer, count: int
) -> list[Answer]:
    """The surest answers besides the given one.

    Args:
        answerer: The loaded model.
        image: One image, from :meth:`Answerer.encode`.
        question: The question.
        given: The answer that the model gave; its text is left out.
        count: Most answers to return.

    Returns:
        Answers of different texts, the surest first; fewer where the beams agree.
    """
    batch = answerer.processor(None, [question]).to(answerer.model.device)
    beams = count + 2  # some end in texts that are left out
    sequences = answerer.model.generate(
        **batch,
        image=image,
        max_new_tokens=MAX_NEW_TOKENS,
        do_sample=False,
        num_beams=beams,
        num_return_sequences=beams,
    )
    found: dict[str, Answer] = {}
    for row in sequences.tolist():
        ids = _until_end(answerer, row)
        text = answerer.processor.tokenizer.decode(ids, skip_special_tokens=True).strip()
        if text != given.text and text not in found:
            log_p = score_answer(answerer, image, question, ids).log_p
            found[text] = replace(
                given, text=text, confidence=probability(float(log_p.sum())), ids=ids
            )
    return sorted(found.values(), key=lambda answer: -answer.confidence)[:count]


def _until_end(answerer: Answerer, row: list[int]) -> tuple[int, ...]:
    """The ids up to and including the first end token."""
    stops = answerer.model.generation_config.eos_token_id
    ends = {stops} if isinstance(stops, int) else set(stops)
    length = next((index + 1 for index, one in enumerate(row) if one in ends), len(row))
    return tuple(row[:length])
