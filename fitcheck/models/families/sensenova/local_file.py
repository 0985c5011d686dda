"""A local GGUF file as a tier of a catalog model: its own tensor table, checked against the model's shapes."""

from __future__ import annotations

from pathlib import Path

from fitcheck.errors import InputError
from fitcheck.models.families.sensenova.architecture import (
    SenseNovaArchitecture,
    bf16,
    classify,
    is_sensenova,
    tensor_table,
)
from fitcheck.models.gguf import read_gguf
from fitcheck.models.model import Model, Tier
from fitcheck.models.tensors import TensorTable


def tier_from_gguf(model: Model, path: str | Path) -> Tier:
    """The file as a tier of ``model``, named after the type that holds most of its bytes.

    Raises InputError when the file cannot be read, is of another architecture, or has other shapes than the model.
    """
    header = read_gguf(path)
    name = Path(path).name
    table = TensorTable(classify(tensor) for tensor in header.tensors)
    if not is_sensenova(table):
        raise InputError(
            f"--gguf: {name} holds a {header.architecture or 'nameless'} model, not {model.name}; "
            f"check that file by itself with `fitcheck check {name}`."
        )
    if isinstance(model.architecture, SenseNovaArchitecture):
        expected = {tensor.name: tensor.shape for tensor in tensor_table(model.architecture, bf16)}
        found = {tensor.name: tensor.shape for tensor in table}
        wrong = next((key for key in expected if found.get(key) != expected[key]), None)
        if wrong is not None:
            raise InputError(
                f"--gguf: {name} is a SenseNova-U1 file but not {model.name}: {wrong} should have shape "
                f"{expected[wrong]} and has {found.get(wrong, 'no entry')}; name the model that it was made from."
            )
    main = next(iter(table.bytes_by_type))
    return Tier(
        name=f"{main} ({name})",
        tensors=table,
        format="gguf",
        file=name,
        disk_bytes=header.file_bytes or table.nbytes,
        source="the file's own tensor table",
        local_path=str(path),
        distilled_steps=8 if "8step" in name.lower() else None,
    )
