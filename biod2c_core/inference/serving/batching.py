"""Dynamic batches: one thread owns the model and answers together what has come in meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from biod2c_core.errors import BioD2CError
from biod2c_core.inference.attention.attention_map import View
from biod2c_core.inference.attention.explain import explain_answer
from biod2c_core.inference.questions import warnings_about
from biod2c_core.inference.serving.metrics import Metrics
from biod2c_core.inference.serving.requests import Limits, RefusedError, queue_full
from biod2c_core.inference.volumes.whole import Share
from biod2c_core.inference.vqa_model import VQAModel
from biod2c_core.model.fusion import ImageEncoding
from biod2c_core.model.generation import Answer, Answerer

CACHED_IMAGES = 16  # encodings kept, for further questions about an image


@dataclass(frozen=True)
class Delta:
    """More of a growing answer."""

    text: str


@dataclass(frozen=True)
class Finished:
    """The whole answer.

    Attributes:
        text: The answer.
        confidence: In [0, 1].
        calibrated: Whether the confidence is calibrated.
        familiarity: Of the image, 0 to 1; None where the checkpoint has no reference.
        warning: A line for people where the answer means little.
        prompt_tokens: Number of visual tokens and of tokens of the prompt.
        tokens: Number of tokens of the answer.
        cut: Whether it ends because it may not be longer.
        attention: The map, (H, W) with sum 1, if asked for.
        images: What is answered about each image, where this is the answer of several.
        spread: Each answer that was given about them, that of most evidence first; ``places`` are images.
    """

    text: str
    confidence: float
    calibrated: bool
    familiarity: float | None
    warning: str
    prompt_tokens: int
    tokens: int
    cut: bool
    attention: list[list[float]] | None = None
    images: tuple[Finished, ...] = ()
    spread: tuple[Share, ...] = ()


Event = Delta | Finished | RefusedError


@dataclass(eq=False)
class Job:
    """A question about one image that waits for its answer.

    Attributes:
        question: The question.
        pixels: The image, (3, S, S), from the processor.
        image: A name for the image: the same for the same bytes.
        max_tokens: Longest answer.
        stream: Publish the answer as it grows.
        attention: Publish the attention map too.
        deadline: When it is too late, in ``time.monotonic()``.
        events: What happens, for the loop that waits.
        cancelled: Nobody waits any more.
    """

    question: str
    pixels: Tensor
    image: str
    max_tokens: int
    stream: bool
    attention: bool
    deadline: float
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    cancelled: bool = False
    sent: str = ""

    @property
    def over(self) -> bool:
        """Whether an answer would come too late, or to nobody."""
        return self.cancelled or time.monotonic() > self.deadline

    def publish(self, event: Event) -> None:
        """Tell the loop that waits, from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody waits
            self.loop.call_soon_threadsafe(self.events.put_nowait, event)


class Watch(StoppingCriteria):
    """Publishes growing answers, and ends rows that nobody waits for."""

    def __init__(self, answerer: Answerer, jobs: Sequence[Job]) -> None:
        self.tokenizer = answerer.processor.tokenizer
        self.jobs = jobs
        # what is concluded from other questions is known at the end only
        self.growing = [job.stream and not answerer.rests_on(job.question) for job in jobs]

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """After each token: which of the rows (B,) are to end."""
        for ids, job, grows in zip(input_ids, self.jobs, self.growing, strict=True):
            if grows and not job.over:
                text = self.tokenizer.decode(ids, skip_special_tokens=True).strip()
                if text.startswith(job.sent) and not text.endswith("\N{REPLACEMENT CHARACTER}"):
                    send_rest(job, text)
        return torch.tensor([job.over for job in self.jobs], device=input_ids.device)


def send_rest(job: Job, text: str) -> None:
    """Publish what of a text has not been sent yet."""
    rest = text[len(job.sent) :]
    if rest:
        job.sent = text
        job.publish(Delta(rest))


class Engine:
    """Owns a model; :meth:`submit` may be called from any thread.

    Args:
        model: The loaded model.
        limits: Length of queue and batches.
        metrics: Where to count.
    """

    def __init__(
        self,
        model: VQAModel,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        self.model = model
        self.answerer = model.answerer
        self.limits = limits
        self.metrics = metrics
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._encodings: OrderedDict[str, ImageEncoding] = OrderedDict()
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Refuse what waits, finish what is being answered."""
        with self._changed:
            self._closed = True
            waiting, self._waiting = list(self._waiting), deque()
            self._changed.notify_all()
        for job in waiting:
            job.publish(RefusedError(503, "the server is stopping", "stopping", 5))
        if self._thread.is_alive():
            self._thread.join()

    @property
    def length(self) -> int:
        """How many jobs wait."""
        return len(self._waiting)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Put the jobs of a request at the end of the queue, all or none.

        Raises:
            RefusedError: 429 if the queue has no room for them, 503 if the server is stopping.
        """
        with self._changed:
            if self._closed:
                raise RefusedError(503, "the server is stopping", "stopping", 5)
            if len(self._waiting) + len(jobs) > self.limits.queue:
                raise queue_full()
            self._waiting.extend(jobs)
            self._changed.notify()

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Give up the jobs of a request, and their places in queue or batch."""
        with self._changed:
            for job in jobs:
                job.cancelled = True
                with contextlib.suppress(ValueError):
                    self._waiting.remove(job)
        self.metrics.add("biod2c_cancelled_total")

    def _take(self) -> list[Job] | None:
        """The next batch, of jobs with answers of one greatest length; None at the end."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            first = self._waiting[0].max_tokens
            chosen = [job for job in self._waiting if job.max_tokens == first]
            chosen = chosen[: self.limits.batch]
            for job in chosen:
                self._waiting.remove(job)
            return chosen

    def _work(self) -> None:
        while (jobs := self._take()) is not None:
            alive = [job for job in jobs if not job.over]
            if alive:
                self._attempt(alive)

    def _attempt(self, jobs: list[Job]) -> None:
        """Answer a batch; if it fails, each job alone, so that a bad one fails by itself."""
        try:
            self._answer(jobs)
        except Exception as error:
            if len(jobs) > 1:
                for job in jobs:
                    self._attempt([job])
            elif isinstance(error, BioD2CError):
                jobs[0].publish(RefusedError(400, str(error), "invalid_request"))
            else:
                name = type(error).__name__
                jobs[0].publish(RefusedError(503, f"the model failed ({name})", "failed", 5))

    def _answer(self, jobs: list[Job]) -> None:
        names = list(dict.fromkeys(job.image for job in jobs))
        encoding = self._encode(names, jobs)
        answers = self.answerer.answer_encoded(
            encoding,
            [(names.index(job.image), job.question) for job in jobs],
            max_new_tokens=jobs[0].max_tokens,
            watch=StoppingCriteriaList([Watch(self.answerer, jobs)]),
        )
        self.metrics.add("biod2c_batches_total")
        self.metrics.add("biod2c_questions_total", len(jobs))
        shown = [job.attention for job in jobs]
        ordered = sorted(zip(shown, jobs, answers, strict=True), key=lambda row: row[0])
        for _, job, answer in ordered:  # those without a map are done first
            if not job.over:
                self._finish(job, answer)

    def _finish(self, job: Job, answer: Answer) -> None:
        if job.stream:
            send_rest(job, answer.text)
        confidence, calibrated = self.model.confidence(answer)
        ends = (
            answer.ids[-1:] and answer.ids[-1] in self.answerer.processor.tokenizer.all_special_ids
        )
        job.publish(
            Finished(
                text=answer.text,
                confidence=confidence,
                calibrated=calibrated,
                familiarity=answer.familiarity,
                warning="; ".join(self._warnings(job.question, answer)),
                prompt_tokens=self._prompt_tokens(job.question),
                tokens=len(answer.ids),
                cut=not ends and len(answer.ids) >= job.max_tokens,
                attention=self._map(job, answer) if job.attention else None,
            )
        )

    def _warnings(self, question: str, answer: Answer) -> list[str]:
        strange = self.answerer.processor.is_spelled_out(question)
        return warnings_about(self.answerer.name, question, answer.familiarity, strange)

    def _prompt_tokens(self, question: str) -> int:
        visual: int = self.answerer.model.config.num_visual_tokens
        return visual + len(self.answerer.processor.prompt_ids(question))

    def _map(self, job: Job, answer: Answer) -> list[list[float]]:
        view = View("fusion" if self.answerer.model.fusion.enabled else "language")
        shown = explain_answer(self.answerer, job.pixels, job.question, answer, view)
        rounded: list[list[float]] = shown.values.round(8).tolist()
        return rounded

    @torch.inference_mode()
    def _encode(self, names: list[str], jobs: list[Job]) -> ImageEncoding:
        """The images of a batch, those encoded that are not known yet."""
        pixels = {job.image: job.pixels for job in jobs}
        missing = [name for name in names if name not in self._encodings]
        known = {name: self._encodings[name] for name in names if name in self._encodings}
        if missing:
            model = self.answerer.model
            batch = torch.stack([pixels[name] for name in missing]).to(model.device, model.dtype)
            encoded = model.encode_image(batch)
            for row, name in enumerate(missing):
                one = encoded.rows(slice(row, row + 1))
                known[name] = ImageEncoding(*(part.clone() for part in one))
        self.metrics.add("biod2c_images_encoded_total", len(missing))
        self.metrics.add("biod2c_encodings_reused_total", len(jobs) - len(missing))
        for name in names:
            self._encodings[name] = known[name]
            self._encodings.move_to_end(name)
        while len(self._encodings) > CACHED_IMAGES:
            self._encodings.popitem(last=False)
        rows = [known[name] for name in names]
        return ImageEncoding(*(torch.cat(parts) for parts in zip(*rows, strict=True)))
