"""The words of a page about one model on one card: title, description, headings. Words before jargon, one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fitcheck.data_files import load
from fitcheck.models.workload import Task
from fitcheck.pages.formats import VERDICTS, write
from fitcheck.pages.view import focus, pace
from fitcheck.verdict.usual_memory import described

MEANINGS = {
    "fits": "runs, also where it takes the most it may and the machine gives the least",
    "tight": "should run, but something is scarce, which the answer names: memory, number formats or speed",
    "no": "does not run like this",
    "unknown": "nobody has shown it either way; do not buy on it",
}
# the colour of a comparison's outcome, as a verdict's
JUDGED = {
    "regression": "no",
    "explained": "tight",
    "acknowledged": "tight",
    "cannot tell": "unknown",
    "improvement": "fits",
    "unchanged": "fits",
}
EVIDENCE = {
    "estimated": "computed from the model's real tensor sizes; nobody has sent a measurement of this card yet",
    "calibrated": "computed, and corrected by measurements of other cells on this card or on its architecture",
    "measured": "this very cell was measured on this card, and the measured number stands here",
}
TASKS = {
    "t2i": "Make an image from text",
    "editing": "Edit an image",
    "t2v": "Make a video from text",
    "i2v": "Make a video from an image",
    "interleave": "Write an answer with images",
    "vqa": "Answer a question about an image",
    "chat": "Chat",
    "embed": "Embed or rank a text",
}
NOUNS = {
    "t2i": "an image made from text",
    "editing": "an edited image",
    "t2v": "a video made from text",
    "i2v": "a video made from an image",
    "interleave": "an answer with images",
    "vqa": "an answer about an image",
    "chat": "an answer",
    "embed": "a text embedded or ranked",
}
# what measured rows had to do with the estimate that they stand beside, where they do not test it
PARTS = {"fitted on": "fitted on these rows", "sets a width": "these rows set how wide the range is"}
CATEGORIES = {
    "resident": "weights that stay",
    "window": "weights passing through",
    "kv_cache": "keys and values",
    "activations": "tensors of the pass",
    "scratch": "unpacked weights",
}


def held(cells: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The kinds of memory that any phase of ``cells`` holds, with their names."""
    found = {name for name in CATEGORIES for cell in cells for phase in cell["phases"] if phase[name]}
    return {name: said for name, said in CATEGORIES.items() if name in found}


CONSTRAINTS = {
    "VRAM": "card memory",
    "host RAM": "system memory",
    "disk": "disk space",
    "compute capability": "the card's generation",
    "dtype": "number formats of the card",
    "runtime support": "software support",
    "unknown model": "an unknown model",
    "speed": "speed",
}
PHASES = {
    "load": "loading",
    "prefix": "reading the prompt",
    "denoise": "making the image",
    "decode": "writing text",
    "understand": "looking at images",
}

# what an answer assumes where nobody says it
USUAL_MEMORY = f"the usual system memory ({described()})"


def counted(number: int, noun: str) -> str:
    """A number with its noun in the plural unless it is 1: "1 card", "1,200 cards"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def unit_of(task: str) -> str:
    """What one run of a task makes: "an image", "a video", "an answer" or "an answer with images"."""
    return Task(task).one


def read_along(task: str) -> bool:
    """Whether what a task makes is read while it is made, so that tokens a second say more than seconds."""
    return Task(task).read_along


def pace_of(task: str) -> str:
    """The head of a column of speeds: "Speed" of what is read along, "Reading speed" where nothing is written,
    else what one run makes."""
    if Task(task) is Task.EMBED:
        return "Reading speed"
    return "Speed" if read_along(task) else unit_of(task).capitalize()


def how(cell: Mapping[str, Any]) -> str:
    """What to take, in a few words: "the Q8_0 files in mode low", "the Q8_0 files with ngl 99"."""
    along = read_along(cell["workload"]["task"])
    return f"{cell['tier']} files {'with' if along else 'in mode'} {cell['mode']}"


def quality_of(family: str | None) -> str:
    """What smaller files cost in quality, as far as anybody has measured it, in a line."""
    families = load("pages", "quality")["families"]
    return str(families.get(family, families["any"])["words"])


def subject(document: Mapping[str, Any]) -> str:
    """What the page is about: "MODEL on MACHINE"."""
    report = document["report"]
    return f"{report['model']['name']} on {report['machine']['name']}"


def lead(document: Mapping[str, Any], way_out: str | None) -> str:
    """The answer in the fewest words: what stands under the verdict and in the title. What binds is named in it."""
    report = document["report"]
    cell = report["cells"][focus(report)]
    if cell["verdict"] in ("fits", "tight") and not cell["published"]:
        return f"It would run with {how(cell)}, for which no published file is known"
    if cell["verdict"] == "fits":
        return f"Yes, it runs: take the {how(cell)}"
    if cell["verdict"] == "tight":
        return f"It {cell['gist']}: {how(cell)}"
    if cell["verdict"] == "unknown":
        return "Nobody has shown whether it runs"
    if way_out is None:
        return f"It {cell['gist']}"
    if way_out.startswith("a card with "):
        return f"It does not fit: needs {way_out}"
    return f"Not like this: needs {way_out}" if "memory" in way_out else f"Not like this, but it runs with {way_out}"


def title(document: Mapping[str, Any], way_out: str | None) -> str:
    """Reads as a search result and as a link preview."""
    cell = document["report"]["cells"][focus(document["report"])]
    if cell["verdict"] in ("fits", "tight"):
        file = "" if cell["published"] else " (no published file known)"
        word = "too slow" if cell["binding"] == "speed" else VERDICTS[cell["verdict"]].lower()
        rest = f"{word}, {cell['tier']} {cell['mode']}{file}"
    elif cell["verdict"] == "unknown":
        rest = "unknown"
    else:
        rest = f"needs {way_out}" if way_out else "does not run"
    return f"{subject(document)}: {rest}"


def description(document: Mapping[str, Any], way_out: str | None) -> str:
    """One or two sentences with the figures, about 160 characters."""
    report = document["report"]
    cell = report["cells"][focus(report)]
    usable = report["machine"]["usable_vram"]["best"]
    memory = (
        f"{write(cell['card']['best'], 'gib')} of {write(usable, 'gib')} card memory, "
        f"{write(cell['host']['best'], 'gib')} of system memory"
    )
    if cell["verdict"] in ("fits", "tight"):
        time = ""
        rate = pace(cell, report["workload"]["task"])
        if rate is not None:
            time = f", {write(rate, 'speed_span')}"
        elif cell["seconds"] is not None:
            time = f", {write(cell['seconds'], 'seconds_span')} {unit_of(report['workload']['task'])}"
        return f"{lead(document, way_out)}. {memory}{time} ({cell['evidence']['level']})."
    return f"{lead(document, way_out)}. {cell['reason']}"


def result_words(facts: Mapping[str, Any]) -> str:
    """A record in a line: what ran, its time, its card memory, its day."""
    ran = " ".join(part for part in (facts["tier"], facts["mode"], facts["task"] or facts["kind"]) if part)
    time, card = write(facts["seconds"], "seconds"), write(facts["device"], "gib2")
    return f"{ran}: time {time}, card memory {card}, {write(facts['created'], 'date')}."


def change_said(change: Mapping[str, Any], name: str | None) -> str:
    """A change in words."""
    what = name or change["address"]
    if change["kind"] == "verdict":
        return f"{what}: {change['to']}, was {change['from']}"
    if change["kind"] == "page":
        return f"{what}: new, {change['to']}"
    words = {"verdicts": "verdicts changed", "pages": "new pages", "gone": "pages were taken away"}
    return f"{change['count']} {words[change['kind']]}"
