"""Which sizes of a workload a task uses: what a record stores, and what makes two runs the same cell."""

from __future__ import annotations

from fitcheck.models.workload import Task, Workload

_PICTURE = ("width", "height", "steps", "cfg")
USED: dict[Task, tuple[str, ...]] = {
    Task.T2I: (*_PICTURE, "batch", "think"),
    Task.EDITING: (*_PICTURE, "image_cfg", "references", "batch", "think"),
    Task.T2V: (*_PICTURE, "frames", "batch"),
    Task.I2V: (*_PICTURE, "frames", "references", "batch"),
    Task.INTERLEAVE: (*_PICTURE, "image_cfg", "references", "images", "new_tokens", "batch", "think"),
    Task.VQA: ("references", "prompt_tokens", "new_tokens", "batch"),
    Task.CHAT: ("prompt_tokens", "new_tokens", "context", "batch"),
    Task.EMBED: ("prompt_tokens", "context", "batch"),
}


def used_sizes(workload: Workload) -> dict[str, object]:
    """The sizes that make ``workload``'s cell. The length of a picture's prompt is left out: it is stored, but runs
    with other words are still runs of the same cell."""
    return {name: getattr(workload, name) for name in USED[workload.task]}
