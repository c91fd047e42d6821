"""Exports of a trained micro model on a CPU, read back from disk by plain transformers."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("unsloth")

import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from sa_ah_lib.config import preset
from sa_ah_lib.export import formats, reload, verify
from sa_ah_lib.train import models, runlog

SCORES = {0: 3, 20: 7}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished micro-s run whose adapter was drawn, not trained: large enough to change what the model says."""
    config = preset("micro-s", "sa-ah-grpo", steps=20, seed=7, max_completion_tokens=24)
    directory = tmp_path_factory.mktemp("runs") / config.run_id
    log = runlog.RunLog(directory, config, runlog.environment(data={"source": "micro", "sha256": "ab" * 32}))
    for step, right in SCORES.items():
        for i in range(10):
            log.write("eval", {"step": step, "problem": i, "correct": i < right})
    loaded = models.load(config)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.03)
    models.save_adapter(loaded, directory / "adapter")
    log.finish({})
    return runlog.read_run(directory)


@pytest.fixture
def run(trained, tmp_path):
    """A copy, so that one test's exports are not another's."""
    return runlog.read_run(shutil.copytree(trained.directory, tmp_path / trained.directory.name))


@pytest.fixture
def hub(monkeypatch):
    """What was asked of the hub, in order."""
    asked = []
    monkeypatch.setattr(
        formats, "HfApi",
        lambda: SimpleNamespace(
            create_repo=lambda repo, **options: asked.append(("create", repo, options)),
            upload_folder=lambda repo_id, folder_path, **options: asked.append(
                ("upload", repo_id, folder_path, options)
            ),
        ),
    )  # fmt: skip
    return asked


def no_loading(*args, **kwargs):
    pytest.fail("the model was loaded for a request that cannot be met")


def test_a_merged_model_says_what_the_adapter_says(run, hub):
    """Merged files that lack the adapter, or that only Unsloth can read; a card without what was measured."""
    places = formats.export(run, ["adapter", "merged_16bit"])
    assert places == {"adapter": run.directory / "adapter", "merged_16bit": run.directory / "export" / "merged_16bit"}
    assert not list(run.directory.glob("export/*.unverified"))
    assert dtypes(places["merged_16bit"]) == {torch.bfloat16}
    card = ModelCard.load(places["merged_16bit"] / "README.md")
    for text in (
        "SA-AH-GRPO on micro", "| 20 | 7/10 | 0.700 |", "ab" * 32, "seed 7, data seed 123", '"alpha": 0.5',
        "on 16 prompts",
    ):  # fmt: skip
        assert text in card.content
    assert card.data.eval_results[0].metric_value == 0.7
    # What the comparison is worth: the base itself must say something else.
    assert float(re.search(r"base would choose ([\d.]+)%", card.content)[1]) < 98
    assert "alpha" in (places["adapter"] / "README.md").read_text() and hub == []


def dtypes(directory):
    return {tensor.dtype for tensor in load_file(directory / "model.safetensors").values()}


@pytest.mark.parametrize("dtype", formats.DTYPES)
@pytest.mark.parametrize("native", [True, False])
def test_a_merged_model_has_the_dtype_that_was_asked_for(run, monkeypatch, native, dtype):
    """Unsloth would write bfloat16 on a CPU with AVX512-BF16 and float16 on one without: two machines, two models."""
    from unsloth_zoo.cpu import loader

    monkeypatch.setattr(loader, "cpu_bf16_supported", lambda: native)
    place = formats.export(run, ["merged_16bit"], dtype=dtype)["merged_16bit"]
    assert dtypes(place) == {getattr(torch, dtype)}
    assert json.loads((place / "config.json").read_text())["dtype"] == dtype


def test_weights_of_another_dtype_are_an_error(run, monkeypatch):
    """An Unsloth that keeps the base's own dtype, whatever it is told."""
    save = formats._save_merged
    monkeypatch.setattr(formats, "_save_merged", lambda loaded, directory, _: save(loaded, directory, "float16"))
    with pytest.raises(verify.ExportMismatchError, match=r"must be bfloat16, but there are \['F16'\].*with that"):
        formats.export(run, ["merged_16bit"])


@pytest.mark.parametrize("dtype", formats.DTYPES)
def test_sixteen_bit_models_are_merged_by_unsloth_in_the_dtype(tmp_path, dtype):
    """As loaded on a GPU: Unsloth streams the base's files, and is told the dtype."""
    asked = []
    base = SimpleNamespace(config=SimpleNamespace(_name_or_path="Qwen/Qwen2.5-1.5B-Instruct"))
    model = SimpleNamespace(
        dtype=torch.bfloat16, config=base.config, get_base_model=lambda: base,
        save_pretrained_merged=lambda *a, **k: asked.append((a, k)),
    )  # fmt: skip
    formats._save_merged(models.Loaded(model, "tokenizer", "a card", {}), tmp_path, dtype)
    assert asked == [((str(tmp_path), "tokenizer"), {"save_method": "merged_16bit", "dtype": dtype})]


def test_a_base_in_float32_files_that_trained_in_16_bits_is_merged_in_the_dtype(run, tmp_path, monkeypatch):
    """As SmolLM2 is on a card: Unsloth's merge would keep float32, and the export fail."""
    base = Path(shutil.copytree(models.model_path("micro-s"), tmp_path / "base"))
    weights = load_file(base / "model.safetensors")
    save_file({n: w.float() for n, w in weights.items()}, base / "model.safetensors", {"format": "pt"})
    assert verify.dtypes(base) == {"F32"}
    monkeypatch.setattr(models, "model_path", lambda *name: str(base))
    monkeypatch.setattr(models, "precision", lambda: (torch.bfloat16, {}))
    place = formats.export(run, ["merged_16bit"])["merged_16bit"]
    assert dtypes(place) == {torch.bfloat16}


@pytest.mark.parametrize(("same", "base_same", "passes"), [(0.9, 0.5, True), (0.5, 0.5, False), (1.0, 1.0, True)])
def test_files_over_another_base_than_was_trained_on_are_told_apart_from_it(monkeypatch, same, base_same, passes):
    """A run in 4 bits: its 16-bit base says other things, which is no fault of the merge."""
    found = {"prompts": 1, "tokens": 9, "same_completions": same, "same_tokens": same, "base_same_tokens": base_same}
    monkeypatch.setattr(verify, "compare", lambda *rows: dict(found))
    monkeypatch.setattr(verify, "kept_share", lambda model, files: None)
    model = SimpleNamespace(config=SimpleNamespace(quantization_config={"load_in_4bit": True}))
    if passes:
        assert "trained on a base in 4 bits" in verify.check(model, "merged_16bit", Path("files"), [], ([], []))
    else:
        with pytest.raises(verify.ExportMismatchError, match="than the untouched base does"):
            verify.check(model, "merged_16bit", Path("files"), [], ([], []))


def test_a_merge_that_lost_the_adapter_is_an_error_with_its_share(run, monkeypatch, hub):
    """The accident this module is for: the base model saved under the trained one's name."""

    def base_only(loaded, directory, dtype):
        models.load(run.config).model.unload().bfloat16().save_pretrained(directory)

    monkeypatch.setattr(formats, "_save_merged", base_only)
    with pytest.raises(verify.ExportMismatchError, match=r"at most 2% .* but [\d.]+% do.*export the adapter instead"):
        formats.export(run, ["merged_16bit"], push_to="name/model")
    assert not (run.directory / "export" / "merged_16bit").exists()
    assert (run.directory / "export" / "merged_16bit.unverified").is_dir() and hub == []


def test_a_merge_whose_rounding_took_the_adapter_is_an_error(run, monkeypatch):
    """Small learning rates move weights by less than a 16-bit step: the merge is then the base, and says the same."""
    monkeypatch.setattr(verify, "kept_share", lambda model, directory: 0.3)
    with pytest.raises(verify.ExportMismatchError, match="at most 50% .* hold 30.0% .*too little for a 16-bit merge"):
        formats.export(run, ["merged_16bit"])


@pytest.mark.parametrize(("size", "low", "high"), [(1e-2, 0.97, 1.03), (2e-5, -0.1, 0.3)])
def test_kept_share_is_the_part_of_the_change_that_rounding_leaves(tmp_path, size, low, high):
    """A base on the 16-bit grid, as on a GPU: what is far below half a step is lost, what is above it is kept."""
    import tiny
    from peft import LoraConfig, get_peft_model

    policy = get_peft_model(tiny.model().bfloat16(), LoraConfig(r=4, target_modules=["q_proj", "up_proj"]))
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_" in name:
                parameter.data = parameter.data.float().normal_(std=size**0.5)
    merged = {}
    for name, module in policy.named_modules():
        if hasattr(module, "get_delta_weight"):
            whole = module.get_base_layer().weight.float() + module.get_delta_weight("default").float()
            merged[name.removeprefix("base_model.model.") + ".weight"] = whole.bfloat16()
    save_file(merged, tmp_path / "model.safetensors")
    assert low < verify.kept_share(policy, tmp_path) < high


def test_an_adapter_with_a_dead_or_broken_matrix_is_not_exported(run):
    """Projections that no gradient reached, or NaN, under the name of a trained adapter."""
    path = run.directory / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if "lora_B" in name)
    for value in (0.0, float("nan")):
        save_file({**tensors, name: torch.full_like(tensors[name], value)}, path)
        with pytest.raises(ValueError, match="finite and not zero. Got 1 that are not"):
            formats.export(run, ["merged_16bit"])


@pytest.mark.parametrize(
    ("asked", "push_to", "message"),
    [
        (["merged"], "", r"any of \('adapter', 'merged_16bit', 'gguf'\). Got \['merged'\]"),
        ("adapter", "", "must be a list"),
        (["adapter"], "not a hub id", "[Rr]epo id must"),
        ([], "name/model", "EXPORT must name what PUSH_TO uploads"),
    ],
)
def test_what_cannot_be_done_is_said_before_loading(run, monkeypatch, asked, push_to, message):
    monkeypatch.setattr(models, "load", no_loading)
    with pytest.raises(ValueError, match=message):
        formats.export(run, asked, push_to)


def test_a_dtype_that_is_no_16_bit_one_is_refused(run, monkeypatch):
    monkeypatch.setattr(models, "load", no_loading)
    with pytest.raises(ValueError, match=r"one of \('bfloat16', 'float16'\). Got 'float32'"):
        formats.export(run, ["merged_16bit"], dtype="float32")


def test_no_formats_load_nothing_and_push_nothing(run, monkeypatch, hub):
    """The notebooks' default must cost nothing, and must never upload."""
    monkeypatch.setattr(models, "load", no_loading)
    assert formats.export(run, []) == {} and hub == []
    with pytest.raises(ValueError, match="EXPORT must name what PUSH_TO uploads"):
        formats.export(run, [], "name/model")
    assert hub == []


def test_a_run_without_adapter_is_refused(run, monkeypatch):
    monkeypatch.setattr(models, "load", no_loading)
    shutil.rmtree(run.directory / "adapter")
    with pytest.raises(ValueError, match="only a trained run.*has no adapter/"):
        formats.export(run, ["adapter"])


def test_a_push_comes_after_the_check_and_is_private(run, hub):
    """An upload of files nobody compared, or a public one by default."""
    places = formats.export(run, ["adapter"], push_to="name/model")
    assert hub == [
        ("create", "name/model-adapter", {"private": True, "exist_ok": True}),
        # An adapter of an earlier version holds TRL's reference copy a second time.
        ("upload", "name/model-adapter", places["adapter"], {"ignore_patterns": ["ref/*"]}),
    ]


# --- GGUF ------------------------------------------------------------------------------------------------------------


def test_gguf_without_llama_cpp_says_so_before_anything_is_loaded_or_installed(run, monkeypatch, tmp_path):
    """Unsloth would install system packages and clone llama.cpp without a question."""
    from unsloth_zoo import llama_cpp

    check = llama_cpp.check_llama_cpp
    monkeypatch.setattr(models, "load", no_loading)
    monkeypatch.setattr(llama_cpp, "check_llama_cpp", lambda: check(str(tmp_path / "nowhere")))
    wanted = "GGUF needs llama.cpp.*does not exist.*UNSLOTH_LLAMA_CPP_PATH.*leave out 'gguf'"
    with pytest.raises(RuntimeError, match=wanted):
        formats.export(run, ["gguf"])


@pytest.mark.parametrize("right", [True, False])
def test_gguf_files_are_compared_like_the_others(run, monkeypatch, right):
    """llama.cpp's conversion is not here to run: Unsloth's call is made up, the rest is real."""
    asked = {}

    def made_up(model, directory, tokenizer, quantization_method):
        asked.update(quantization=quantization_method, tokens=len(tokenizer))
        (path := run.directory.parent / "made-up.Q8_0.gguf").write_bytes(b"GGUF")
        return {"gguf_files": [str(path)]}

    def speech(directory, rows, device):
        assert [path.name for path in directory.iterdir()] == ["made-up.Q8_0.gguf"]
        return [list(c) if right else [token + 1 for token in c] for _, c in rows]

    load = models.load

    def loading(*args):
        loaded = load(*args)
        loaded.model.save_pretrained_gguf = lambda *a, **k: made_up(loaded.model, *a, **k)
        return loaded

    monkeypatch.setattr(models, "check_llama_cpp", lambda: None)
    monkeypatch.setattr(models, "load", loading)
    monkeypatch.setattr(formats, "reloaded_next_tokens", speech)
    if not right:
        with pytest.raises(verify.ExportMismatchError, match="at most 5% .* but 100.0% do"):
            formats.export(run, ["gguf"])
        return
    place = formats.export(run, ["gguf"], quantization="q4_k_m")["gguf"]
    assert asked["quantization"] == "q4_k_m" and asked["tokens"] > 200
    assert {path.name for path in place.iterdir()} == {"made-up.Q8_0.gguf", "README.md"}


# --- the parts -------------------------------------------------------------------------------------------------------


def test_next_tokens_equal_to_the_completion_mean_the_same_greedy_completion():
    """The comparison is one forward pass; an off-by-one in it would compare with the wrong token."""
    import tiny

    from sa_ah_lib.train.evaluation import greedy

    policy, tokenizer = tiny.model().eval(), tiny.tokenizer()
    prompts = [tokenizer("1+2=")["input_ids"], tokenizer("what is 7*8")["input_ids"]]
    rows = list(zip(prompts, greedy(policy, tokenizer, prompts, 12), strict=True))
    assert reload.next_tokens(policy, rows) == [completion for _, completion in rows]


def test_shares_count_tokens_and_completions():
    rows = [([1], [5, 6, 7, 8]), ([1], [9, 9])]
    found = verify.compare(rows, [[5, 6, 0, 8], [9, 9]], [[0, 0, 0, 8], [9, 0]])
    assert found == {
        "prompts": 2, "tokens": 6, "same_completions": 0.5, "same_tokens": 5 / 6, "base_same_tokens": 2 / 6,
    }  # fmt: skip


def test_unreadable_files_say_what_transformers_said(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no-such-model"}))
    with pytest.raises(RuntimeError, match="(?s)could not load .*no-such-model"):
        reload.reloaded_next_tokens(tmp_path, [([1], [2])])
