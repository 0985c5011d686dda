"""The pipelines' catalog: shapes against published counts and file sizes, tiers, names."""

from __future__ import annotations

from math import prod

import pytest

from fitcheck.data_files import load
from fitcheck.errors import ModelError
from fitcheck.models import catalog as every
from fitcheck.models.families.pipeline import catalog, gguf_mixture, tables
from fitcheck.models.families.pipeline.architecture import DENOISER, GUIDANCE, PipelineArchitecture
from fitcheck.models.families.pipeline.names import find_pipeline
from fitcheck.models.families.pipeline.schemes import QUANTIZED, scheme
from fitcheck.models.families.pipeline.tiers import (
    PipelineTable,
    component_bytes,
    component_table,
    component_types,
    table_of,
    unreadable,
)
from fitcheck.models.find import find_model
from fitcheck.models.workload import Product, Task
from fitcheck.units import GIB

# billions of parameters of denoisers and other parts, as published or counted by others (image_models.csv, 2026-11-26)
PARAMETERS = {
    "minimax-h3-transformer": 33.123,
    "qwen-image-2.1-transformer": 7.1151,
    "z-image-transformer": 6.1549,
    "wan-14b-transformer": 14.2885,
    "wan-14b-i2v-transformer": 14.2889,
    "krea2-transformer": 12.8201,
    "qwen-image-transformer": 20.4304,
    "flux2-dev-transformer": 32.2233,
    "flux2-klein-4b-transformer": 3.8755,
    "flux2-klein-9b-transformer": 9.0786,
    "flux3-transformer": 5.5385,
    "flux-transformer-guidance": 11.9014,
    "flux-transformer": 11.8912,
    "wan-1.3b-transformer": 1.419,
    "sdxl-unet": 2.5675,
    "wan-5b-transformer": 4.9998,
    "sd3.5-large-transformer": 8.0566,
    "sd3.5-medium-transformer": 2.2432,
    "hidream-i1-transformer": 17.1057,
    "hunyuanvideo-1.5-transformer": 8.3266,
    "chroma-transformer": 8.9,
    "cogvideox-2b-transformer": 1.6938,
    "cogvideox-5b-transformer": 5.5703,
    "autoencoder-kl-16": 0.0838,
    "autoencoder-kl-wan": 0.1269,
    "autoencoder-kl-wan2.2": 0.7047,
    "autoencoder-kl-qwenimage": 0.1269,
    "autoencoder-kl-qwenimage21": 0.3377,
    "autoencoder-kl-flux2": 0.084,
    "autoencoder-kl-hunyuanvideo15": 1.2606,
    "autoencoder-kl-cogvideox": 0.2156,
    "umt5-xxl-encoder": 5.68,
    "t5-xxl-encoder": 4.762,
    "qwen3-4b": 4.0225,
}
# bytes of files on the hub (as a public model manager's manifest lists them, 2026-11-26), which hold 16-bit weights
FILES_16_BIT = {
    "sdxl-unet": 5_135_149_760,
    "flux2-klein-4b-transformer": 7_751_109_744,
    "qwen3-4b": 4_967_215_360 + 3_077_766_632,
    "qwen3-4b-model": 3_957_900_840 + 3_987_450_520 + 99_630_640,
    "qwen2.5-vl-7b": 4_968_243_304 + 4_991_495_816 + 4_932_751_040 + 1_691_924_384,
    "autoencoder-kl-flux2": 168_120_878,
    "autoencoder-kl-qwenimage": 253_806_966,
    "autoencoder-kl-16": 167_666_902,
    "clip-g-text-projection": 1_389_382_176,
    "clip-l-text": 246_144_152,
}
FILES_32_BIT = {
    "autoencoder-kl-16": 335_304_388,
    "autoencoder-kl-4-sdxl": 334_643_268,
    "sd15-unet": 3_438_167_540,
    "clip-g-text-projection": 2_778_702_264,
    "clip-l-text": 492_265_168,
}
# sizes that a user listed in GiB (image_models.csv): the file's bytes a weight
FILES_IN_GIB = {"autoencoder-kl-minimax-h3": (4.85, 2), "autoencoder-kl-minimax-h3-audio": (0.56, 4)}
# published GGUF files: bytes on the hub, and how far the mixture's table may be from them
GGUF_FILES = [
    ("flux.1-krea-dev", "Q8_0", 12_714_452_256, 1e-5),
    ("flux.1-krea-dev", "Q6_K", 9_848_349_984, 1e-5),
    ("flux.1-krea-dev", "Q4_1", 7_536_977_184, 1e-5),
    ("qwen-image", "Q8_0", 21_761_817_120, 1e-5),
    ("qwen-image", "Q6_K", 16_824_990_240, 1e-5),
    ("qwen-image", "Q4_K_S", 12_140_608_032, 2e-5),
    # city96's first files keep one-dimensional tensors in F16, and some embedders of the K mixtures in F32
    ("flux.1-dev", "Q8_0", 12_708_281_504, 1e-3),
    ("flux.1-dev", "Q6_K", 9_857_000_736, 1e-3),
    ("flux.1-dev", "Q4_1", 7_530_806_432, 1e-3),
    ("flux.1-schnell", "Q8_0", 12_687_821_728, 1e-3),
    ("flux.1-schnell", "Q6_K", 9_834_955_808, 1e-3),
    ("flux.1-schnell", "Q4_1", 7_510_346_656, 1e-3),
    ("sd3.5-large", "Q8_0", 8_779_212_512, 1e-3),
    ("sd3.5-large", "Q4_0", 4_772_054_752, 1.5e-3),
    ("sd3.5-medium", "Q8_0", 2_855_825_856, 1e-3),
    # fine-tunes of FLUX.1 [dev]
    ("flux.1-dev", "Q5_K_M", 8_421_981_344, 1e-3),
    ("flux.1-dev", "Q4_K_M", 6_934_297_760, 1e-3),
    ("flux.1-dev", "Q3_K_M", 5_370_969_248, 1e-3),
    # sizes stated in gigabytes alone
    ("qwen-image", "Q4_K_M", 13_070_000_000, 4e-3),
    ("flux.1-dev", "Q4_K_S", 6_810_000_000, 2.5e-3),
    ("flux.1-dev", "Q5_K_S", 8_290_000_000, 2.5e-3),
    ("z-image-turbo", "Q8_0", 7_200_000_000, 5e-3),
    ("wan2.2-t2v-a14b", "Q4_K_M", 9_600_000_000, 1e-2),
]


def plain(trace: str) -> int:
    """Parameters and stored buffers of a component."""
    return sum(prod(entry.shape) for entry in tables.entries(trace))


@pytest.mark.parametrize(("trace", "billions"), PARAMETERS.items())
def test_parameters_agree_with_others(trace: str, billions: float) -> None:
    digits = len(str(billions).partition(".")[2])
    assert tables.parameters(trace) / 1e9 == pytest.approx(billions, abs=1.01 * 10**-digits)


@pytest.mark.parametrize("trace", tables.data())
def test_unpacked_table_has_the_parameters_that_the_class_has(trace: str) -> None:
    names = [entry.name for entry in tables.entries(trace)]
    assert len(set(names)) == len(names)
    # what a checkpoint holds besides parameters: batch norm statistics, latents' means, tables of positions
    assert plain(trace) == tables.data()[trace]["elements"] >= tables.parameters(trace)


@pytest.mark.parametrize(
    ("trace", "width", "published"),
    [(trace, 2, size) for trace, size in FILES_16_BIT.items()]
    + [(trace, 4, size) for trace, size in FILES_32_BIT.items()],
)
def test_published_files_hold_these_tensors(trace: str, width: int, published: int) -> None:
    """What a file has beyond its tensors is its header: under 0.1 %, or 60 kB of a small file."""
    header = published - width * plain(trace)
    assert 0 < header < max(60_000, published / 1000)


def test_the_published_text_encoder_holds_its_embedding_twice() -> None:
    """t5xxl_fp16.safetensors, 9,787,841,024 bytes: tied in memory, stored once more in the file."""
    twice = 2 * (plain("t5-xxl-encoder") + 32128 * 4096)
    assert 0 < 9_787_841_024 - twice < 60_000


@pytest.mark.parametrize(("trace", "gib", "width"), [(trace, *row) for trace, row in FILES_IN_GIB.items()])
def test_sizes_that_users_list(trace: str, gib: float, width: int) -> None:
    assert width * plain(trace) / GIB == pytest.approx(gib, abs=0.005)


@pytest.mark.parametrize(("slug", "tier", "published", "tolerance"), GGUF_FILES)
def test_gguf_tiers_against_published_files(slug: str, tier: str, published: int, tolerance: float) -> None:
    architecture = catalog.architecture_of(slug)
    denoiser = architecture.of_role_or_name(DENOISER)[0]
    assert table_of(architecture, tier).of(denoiser.name).nbytes == pytest.approx(published, rel=tolerance)


@pytest.mark.parametrize("slug", catalog.slugs())
def test_every_pipeline(slug: str) -> None:
    model = catalog.get(slug)
    architecture = model.architecture
    assert isinstance(architecture, PipelineArchitecture)
    assert architecture.guidance in GUIDANCE
    names = [one.name for one in architecture.components]
    chained = [name for name in architecture.offload_sequence if name in names]
    assert chained == [name for name in names if name in chained]
    assert {one.role for one in architecture.components} >= {"denoiser", "text_encoder", "vae"}
    defaults = architecture.defaults
    assert defaults.width % architecture.size_multiple == defaults.height % architecture.size_multiple == 0
    assert architecture.image_tokens(defaults.width, defaults.height, defaults.frames) > 0
    assert (defaults.frames > 1) == (architecture.tasks[0].produces is Product.VIDEO)
    assert len({tier.name for tier in model.tiers}) == len(model.tiers)
    assert [tier.tensors.nbytes for tier in model.tiers] == sorted(
        (t.tensors.nbytes for t in model.tiers), reverse=True
    )
    assert all(tier.components == tuple(names) and tier.disk_bytes > 0 and tier.source for tier in model.tiers)


@pytest.mark.parametrize("slug", catalog.slugs())
def test_packed_sizes_are_those_of_the_tables(slug: str) -> None:
    """Sizes lie beside the shapes so that no table is made for them."""
    for tier in catalog.get(slug).tiers:
        table = tier.tensors
        assert isinstance(table, PipelineTable)
        for component, how in table.parts:
            assert component_types(component, how) == component_table(component, how).bytes_by_type
            assert component_bytes(component, how) == component_table(component, how).nbytes


def test_a_tier_is_the_sum_of_its_components() -> None:
    table = catalog.get("flux.1-dev").tier_named("Q4_K_S").tensors
    assert table.nbytes == sum(tensor.nbytes for tensor in table.tensors)
    assert table.bytes_by_branch["transformer"] == table.where(branch="transformer").nbytes
    assert table.elements == sum(
        map(tables.parameters, ("clip-l-text", "t5-xxl-encoder", "flux-transformer-guidance", "autoencoder-kl-16"))
    )


def test_layerwise_casting_skips_what_diffusers_skips() -> None:
    """FLUX.1's modulation lies under modules named norm: a quarter of the weights stays in 16 bit."""
    flux = catalog.get("flux.1-dev").tier_named("fp8").tensors.where(branch="transformer")
    kept = flux.bytes_by_type["BF16"] / 2 / flux.elements
    assert kept == pytest.approx(3.25 / 11.9, abs=0.01)
    cast = {tensor.name for tensor in flux if tensor.type == "F8_E4M3"}
    assert "transformer.transformer_blocks.0.attn.to_q.weight" in cast
    assert "transformer.transformer_blocks.0.norm1.linear.weight" not in cast
    assert "transformer.proj_out.weight" not in cast


@pytest.mark.parametrize(
    ("tier", "bits"), [("int8", 8), ("nf4", 4.5), ("torchao-int8", 8), ("torchao-int4", 4.25), ("nvfp4", 4.5)]
)
def test_bits_of_a_linear_weight(tier: str, bits: float) -> None:
    component = catalog.architecture_of("qwen-image").component("transformer")
    stem = "transformer.transformer_blocks.3.attn.to_q."
    weight = [tensor for tensor in component_table(component, scheme(tier)) if tensor.name.startswith(stem + "weight")]
    assert 8 * sum(tensor.nbytes for tensor in weight) / 3072**2 == pytest.approx(bits, rel=0.01)
    assert {tensor.name.partition(".weight")[0] for tensor in weight} == {stem[:-1]}


@pytest.mark.parametrize("tier", QUANTIZED)
def test_quantizers_leave_other_tensors_alone(tier: str) -> None:
    component = catalog.architecture_of("wan2.2-ti2v-5b").component("transformer")
    types = {tensor.name: tensor.type for tensor in component_table(component, scheme(tier))}
    assert types["transformer.blocks.0.attn1.norm_q.weight"] in ("BF16", "F32")
    assert types["transformer.scale_shift_table"] == "F32"  # kept in single precision by the class
    assert types["transformer.condition_embedder.time_embedder.linear_1.weight"] == "F32"


def test_gguf_keeps_embedders_and_small_tensors() -> None:
    types = gguf_mixture.types_of("flux-transformer-guidance", "FluxTransformer2DModel", "Q4_K_M")
    assert types["x_embedder.weight"] == "BF16"
    assert types["x_embedder.bias"] == "F32"
    assert types["transformer_blocks.0.attn.to_q.weight"] == "Q5_K"  # fused with k and v in the file
    assert types["single_transformer_blocks.0.attn.to_q.weight"] == "Q4_K"
    assert types["single_transformer_blocks.0.proj_out.weight"] == "Q4_K"


def test_gguf_types_whose_rows_do_not_divide_fall_back() -> None:
    """1152 columns are no whole number of 256-blocks."""
    types = gguf_mixture.types_of("wan-1.3b-transformer", "WanTransformer3DModel", "Q4_K_S")
    for entry in tables.entries("wan-1.3b-transformer"):
        if types[entry.name].endswith("_K"):
            assert entry.shape[-1] % 256 == 0


def test_a_class_without_a_converter_has_no_gguf_tiers() -> None:
    assert gguf_mixture.tier_names("UNet2DConditionModel") == ()
    assert not [tier for tier in catalog.get("sdxl").tiers if tier.format == "gguf"]
    with pytest.raises(KeyError):
        gguf_mixture.types_of("sdxl-unet", "UNet2DConditionModel", "Q8_0")


def test_tiers_with_a_quantized_text_encoder() -> None:
    plain_tier, both = (catalog.get("flux.1-dev").tier_named(name) for name in ("nf4", "nf4+t5-nf4"))
    before, after = plain_tier.tensors.bytes_by_branch, both.tensors.bytes_by_branch
    assert before["transformer"] == after["transformer"]
    assert before["text_encoder"] == after["text_encoder"]
    # transformers' quantizers leave T5's `wo`, which it wants in single precision, in bf16
    packed = [tensor for tensor in both.tensors if tensor.branch == "text_encoder_2" and tensor.type == "U8"]
    assert len(packed) == 24 * 6
    assert not [tensor.name for tensor in packed if ".wo." in tensor.name]
    weights = 24 * (4 * 4096 * 4096 + 2 * 4096 * 10240)
    saved = weights * 2 - weights // 2 - weights // 64 * 4 - len(packed) * 16 * 4  # 4 bit, a scale for 64, one table
    assert after["text_encoder_2"] == before["text_encoder_2"] - saved


def test_disk_is_what_is_downloaded() -> None:
    tiers = {tier.name: tier for tier in catalog.get("flux.1-dev").tiers}
    assert tiers["nf4"].disk_bytes == tiers["bf16"].disk_bytes  # quantized while loading
    others = tiers["bf16"].tensors.nbytes - tiers["bf16"].tensors.bytes_by_branch["transformer"]
    assert tiers["Q8_0"].disk_bytes == others + 12_708_281_504
    two = {tier.name: tier for tier in catalog.get("wan2.2-t2v-a14b").tiers}["Q4_K_M"]
    assert two.tensors.bytes_by_branch["transformer"] == two.tensors.bytes_by_branch["transformer_2"]


def test_files_that_diffusers_does_not_read_say_so() -> None:
    tiers = {tier.name: tier for tier in catalog.get("krea-2-turbo").tiers}
    assert "ComfyUI" in str(unreadable(tiers["int8_convrot (ComfyUI)"]))
    assert unreadable(tiers["Q8_0"]) is None


def test_frames_and_latents() -> None:
    assert catalog.architecture_of("wan2.2-t2v-a14b").latent_frames(81) == 21
    assert catalog.architecture_of("ltx-2.3").latent_frames(121) == 16
    assert catalog.architecture_of("minimax-h3").latent_frames(124) == 37
    assert catalog.architecture_of("wan2.2-ti2v-5b").image_tokens(1280, 704, 121) == 27_280


def test_experts_share_a_table() -> None:
    wan = catalog.architecture_of("wan2.2-t2v-a14b")
    assert wan.experts == (("transformer", "transformer_2"), 0.875)
    first, second = wan.of_role_or_name(DENOISER)
    assert (first.trace, first.config) == (second.trace, second.config)
    with pytest.raises(KeyError):
        wan.component("unet")


def test_configs_build_hashable_values() -> None:
    component = catalog.architecture_of("hidream-i1").component("transformer")
    assert len(component.config["llama_layers"]) == 48
    assert hash(component) == hash(catalog.architecture_of("hidream-i1").component("transformer"))
    assert {component: 1}[component] == 1
    assert component.config != catalog.architecture_of("sdxl").component("unet").config


@pytest.mark.parametrize("key", load(tables.ROOM, "components"))
def test_every_component_says_where_its_shape_is_from(key: str) -> None:
    row = load(tables.ROOM, "components")[key]
    assert row["source"]
    assert row["date"] in ("2026-11-26", "2026-11-28")


@pytest.mark.parametrize("slug", catalog.slugs())
def test_a_licence_is_stated_with_its_source_or_unknown(slug: str) -> None:
    entry = catalog.entry_of(slug)
    assert (catalog.get(slug).licence == "unknown") == (not entry.get("licence_source"))


@pytest.mark.parametrize(
    ("typed", "slug"),
    [
        ("flux dev", "flux.1-dev"),
        ("FLUX.1-dev", "flux.1-dev"),
        ("flux schnell", "flux.1-schnell"),
        ("kontext", "flux.1-kontext-dev"),
        ("flux 2", "flux.2-dev"),
        ("klein 9b", "flux.2-klein-9b"),
        ("sdxl", "sdxl"),
        ("stable diffusion xl", "sdxl"),
        ("stable diffusion 1.5", "sd1.5"),
        ("qwen image", "qwen-image"),
        ("qwen image edit", "qwen-image-edit-2511"),
        ("Qwen-Image-Edit-2509", "qwen-image-edit-2509"),
        ("z-image", "z-image"),
        ("z image turbo", "z-image-turbo"),
        ("wan 2.2", "wan2.2-t2v-a14b"),
        ("wan 2.2 i2v", "wan2.2-i2v-a14b"),
        ("wan 5b", "wan2.2-ti2v-5b"),
        ("hunyuan video 1.5", "hunyuanvideo-1.5"),
        ("h3", "minimax-h3"),
        ("ltx 2.3", "ltx-2.3"),
        ("cogvideox 5b", "cogvideox-5b"),
    ],
)
def test_names_as_they_are_typed(typed: str, slug: str) -> None:
    assert find_pipeline(typed) == slug
    assert find_model(typed).model.slug == slug


@pytest.mark.parametrize("slug", catalog.slugs())
def test_a_slug_means_itself(slug: str) -> None:
    assert find_pipeline(slug) == slug
    assert slug in every.slugs()


@pytest.mark.parametrize(
    ("typed", "among"),
    [
        ("flux", ("flux.1-dev", "flux.1-schnell", "flux.2-dev")),
        ("wan 14b", ("wan2.2-t2v-a14b", "wan2.1-t2v-14b")),
        ("krea", ("krea-2-turbo", "krea-2-raw", "flux.1-krea-dev")),
        ("sd", ("sdxl", "sd3.5-large", "sd1.5")),
        ("stable diffusion", ("sdxl", "sd3.5-medium", "sd1.5")),
    ],
)
def test_an_ambiguous_name_lists_what_it_may_mean(typed: str, among: tuple[str, ...]) -> None:
    with pytest.raises(ModelError, match="could be") as caught:
        find_model(typed)
    assert all(slug in str(caught.value) for slug in among)
    assert str(caught.value).endswith("name one of them.")


@pytest.mark.parametrize(
    "typed", ["qwen", "hunyuan", "minimax", "gemma 3 12b", "llama", "", " ", "flux nonsense", "x" * 999]
)
def test_names_of_other_families_are_left_to_them(typed: str) -> None:
    assert find_pipeline(typed) is None


def test_tasks_say_what_they_make() -> None:
    assert {task for task in Task if task.produces is Product.VIDEO} == {Task.T2V, Task.I2V}
    assert {task for task in Task if task.produces is Product.TEXT} == {Task.VQA, Task.CHAT, Task.EMBED}
