"""What is asked of a model: the task and its sizes."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum, StrEnum

from fitcheck.dataclass_later import dataclass


class Product(Enum):
    """What a run makes."""

    IMAGE = "image"
    VIDEO = "video"
    TEXT = "text"


class Task(StrEnum):
    """What a model is asked to do, by the names of options and records."""

    T2I = "t2i"
    EDITING = "editing"
    T2V = "t2v"
    I2V = "i2v"
    INTERLEAVE = "interleave"
    VQA = "vqa"
    CHAT = "chat"
    EMBED = "embed"

    @property
    def read_along(self) -> bool:
        """Whether tokens are read or written one after the other, so that a rate says more than seconds."""
        return self in (Task.CHAT, Task.EMBED)

    @property
    def writes(self) -> bool:
        """Whether it is text written token by token."""
        return self.read_along and self is not Task.EMBED

    @property
    def rate(self) -> str:
        """The rate that a person reads of a task in text: tokens written a second, or read where none are written."""
        return "prompt" if self is Task.EMBED else "generation"

    @property
    def answers(self) -> bool:
        """Whether what comes out is text alone, so that seconds are those of an answer and not of an image."""
        return self.produces is Product.TEXT

    @property
    def produces(self) -> Product:
        """What comes out; an interleaved answer is counted by its pictures."""
        return _PRODUCTS.get(self, Product.IMAGE)

    @property
    def one(self) -> str:
        """What one run makes, in words."""
        return _ONE.get(self, "an image")


_PRODUCTS = {
    Task.T2V: Product.VIDEO,
    Task.I2V: Product.VIDEO,
    Task.VQA: Product.TEXT,
    Task.CHAT: Product.TEXT,
    Task.EMBED: Product.TEXT,
}

_ONE = {
    Task.T2V: "a video",
    Task.I2V: "a video",
    Task.VQA: "an answer",
    Task.INTERLEAVE: "an answer with images",
    Task.CHAT: "an answer",
    Task.EMBED: "a text",
}


@dataclass(frozen=True, slots=True)
class Workload:
    """A task and its sizes: pixels, tokens, counts.

    Image tasks use ``width``, ``height``, ``steps``, ``cfg``, ``references`` (sizes of the images handed in, width by
    height) and ``images`` (pictures made in an interleaved answer); language tasks use ``context``, ``prompt_tokens``
    and ``new_tokens``; video tasks use ``frames`` too. ``prompt_tokens`` counts text with its system message, without
    reference images. ``think`` counts tokens that are thought before a picture, ``None`` where the model does not
    think; ``text_assumed`` says that nobody gave the lengths of text that the model writes, so that they are as
    uncertain as answers differ.
    """

    task: Task
    width: int = 2048
    height: int = 2048
    steps: int = 50
    cfg: float = 4.0
    image_cfg: float = 1.0
    references: tuple[tuple[int, int], ...] = ()
    images: int = 1
    prompt_tokens: int | None = None
    new_tokens: int = 0
    context: int = 4096
    batch: int = 1
    think: int | None = None
    text_assumed: bool = False
    frames: int = 1

    def __hash__(self) -> int:
        # Enough to tell workloads apart: they are looked up for card after card.
        sizes = self.width, self.steps, self.prompt_tokens, self.context, self.batch
        return hash((sizes, self.new_tokens, self.think, self.references))

    @property
    def makes_one_picture(self) -> bool:
        """Whether the task makes a picture and does not return to text after it."""
        return self.task in (Task.T2I, Task.EDITING)

    def with_(self, **changes: object) -> Workload:
        """The same workload with these fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]
