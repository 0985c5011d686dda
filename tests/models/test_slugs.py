"""The list of which family has which catalog model, and that a look-up needs no other family."""

from __future__ import annotations

import subprocess
import sys

from fitcheck.data_files import load
from fitcheck.models import catalog
from fitcheck.models.families import registry


def test_the_list_is_what_the_families_say() -> None:
    """``python scripts/pack_slugs.py`` writes it anew."""
    families = {name: sorted(registry.get(name).slugs()) for name in registry.MODULES}
    assert load("models.families", "slugs") == {name: slugs for name, slugs in families.items() if slugs}


def test_a_name_is_looked_up_in_any_case_and_found_in_its_family() -> None:
    for slug in ("sdxl", "LLAMA-3.1-8B", "SenseNova-U1-8B-MoT"):
        found = catalog.known(slug)
        assert found is not None
        assert found.slug == slug.lower()
        family = registry.of_slug(slug.lower())
        assert family is not None
        assert family.name == found.architecture.family
    assert registry.of_slug("no-such-model") is None


def test_a_language_model_is_found_without_the_other_families() -> None:
    program = (
        "import sys; from fitcheck.models import catalog; catalog.get('llama-3.1-8b'); "
        "print(*[name for name in sys.modules if name.startswith('fitcheck.models.families.')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "fitcheck.models.families.language.family" in done.stdout.split()
    assert not [name for name in done.stdout.split() if ".pipeline" in name or ".sensenova" in name]


def test_a_name_is_found_without_what_reads_from_a_hub() -> None:
    """As people type it, not only as the catalog has it: importing that takes longer than the look-up."""
    code = (
        "import sys; from fitcheck.models.find import find_model; found = find_model('qwen3 30b a3b instruct 2507');"
        "print(found.model.slug, 'fitcheck.models.hub' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["qwen3-30b-a3b-2507", "False"]


def test_families_of_which_the_list_of_slugs_does_not_speak_have_no_catalog() -> None:
    assert [one.slugs() for one in registry.unlisted()] == [()]
