import re
from dataclasses import asdict

import pytest

from fitcheck.errors import InputError
from fitcheck.models import catalog
from fitcheck.models.families.sensenova.architecture import (
    GENERATION,
    UNDERSTANDING,
    SenseNovaArchitecture,
    classify,
    is_sensenova,
)
from fitcheck.models.tensors import Tensor, TensorTable
from fitcheck.runtimes.sensenova.layer_weights import weights_of

PARAMETERS = {
    "sensenova-u1-8b-mot": 17_552_340_992,
    "sensenova-u1.5-8b-mot": 17_532_854_464,
    "sensenova-u1-a3b-mot": 38_737_986_560,
}


@pytest.mark.parametrize(("slug", "count"), PARAMETERS.items())
def test_parameter_totals_are_the_published_ones(slug: str, count: int) -> None:
    for tier in catalog.get(slug).tiers:
        assert tier.tensors.elements == count


@pytest.mark.parametrize(
    ("slug", "tier", "gigabytes"),
    [
        ("sensenova-u1-8b-mot", "Q4_K_S", 13.88),
        ("sensenova-u1-8b-mot", "Q6_K", 16.06),
        ("sensenova-u1-8b-mot", "Q8_0", 19.99),
        ("sensenova-u1-8b-mot", "BF16", 35.10),
        ("sensenova-u1.5-8b-mot", "BF16", 35.066),
        ("sensenova-u1-a3b-mot", "Q4_K_S", 26.43),
    ],
)
def test_file_sizes_within_a_thousandth(slug: str, tier: str, gigabytes: float) -> None:
    found = catalog.get(slug).tier(tier)
    assert found is not None
    assert found.disk_bytes == pytest.approx(gigabytes * 1e9, rel=1e-3)


def test_the_unquantized_part_of_the_published_files() -> None:
    tier = catalog.get("sensenova-u1-8b-mot").tier("Q4_K_S")
    assert tier is not None
    kept = sum(tensor.nbytes for tensor in tier.tensors if not tensor.quant.quantized)
    assert kept == pytest.approx(2.763e9, rel=1e-3)


def test_one_branch_of_one_layer() -> None:
    tier = catalog.get("sensenova-u1-8b-mot").tier("BF16")
    assert tier is not None
    for branch in (UNDERSTANDING, GENERATION):
        part = tier.tensors.where(branch=branch, layer=7)
        assert (part.elements, part.nbytes) == (192_946_432, 385_892_864)


def test_names_alone_give_back_role_layer_and_branch() -> None:
    tier = catalog.get("sensenova-u1-a3b-mot").tier("Q4_K_S")
    assert tier is not None
    assert is_sensenova(tier.tensors)
    for tensor in tier.tensors:
        assert classify(Tensor(tensor.name, tensor.shape, tensor.type)) == tensor


def test_digest_ignores_order_but_not_types() -> None:
    tier = catalog.get("sensenova-u1-8b-mot").tier("Q4_K_S")
    assert tier is not None
    backwards = TensorTable(reversed(tier.tensors.tensors))
    assert backwards.digest == tier.tensors.digest
    other = catalog.get("sensenova-u1-8b-mot").tier("Q6_K")
    assert other is not None
    assert other.tensors.digest != tier.tensors.digest


@pytest.mark.parametrize("slug", PARAMETERS)
def test_what_a_layered_table_knows_is_what_its_tensors_say(slug: str) -> None:
    for tier in catalog.get(slug).tiers:
        known, flat = tier.tensors, TensorTable(tier.tensors)
        assert (known.digest, known.nbytes, known.elements) == (flat.digest, flat.nbytes, flat.elements)
        assert known.bytes_by_type == flat.bytes_by_type
        assert known.bytes_by_branch == flat.bytes_by_branch
        assert asdict(weights_of(known)) == asdict(weights_of(flat))


def test_a3b_counts_active_parameters_as_compute_only() -> None:
    model = catalog.get("sensenova-u1-a3b-mot")
    assert isinstance(model.architecture, SenseNovaArchitecture)
    assert model.architecture.active_intermediate == 8 * 768
    assert any("compute" in note for note in model.notes)


def test_an_unknown_slug_names_the_nearest() -> None:
    with pytest.raises(InputError, match="sensenova-u1-8b-mot"):
        catalog.get("sensenova-u1-8b")


def test_a_tiers_file_is_a_path_that_a_download_takes() -> None:
    named = {tier.file for one in catalog.listed() for tier in catalog.get(one.slug).tiers if tier.file}
    assert len(named) > 30
    assert not {file for file in named if not re.fullmatch(r"[\w.+/-]+", file)}
