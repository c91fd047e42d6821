"""The gradient microscope: gradients are autograd's of the reference loss, and numbers mean what they say."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny
from reference_loss import reference_loss

from sa_ah_lib import rulebook
from sa_ah_lib.config import RunConfig, preset
from sa_ah_lib.microscope import frozen, gradients, measures, replay, study
from sa_ah_lib.rules import RULES, RolloutBatch
from sa_ah_lib.train import logged
from sa_ah_lib.train.data import Problem
from sa_ah_lib.train.runlog import read_jsonl
from sa_ah_lib.weighting import normalized_entropy

ALPHA = 0.8
BASE = preset("micro-sum", "grpo", num_generations=4)
ARMS = study.arms(BASE, ALPHA)


def group(policy, seed=0, advantages=(1.2, -0.4, -0.9, 0.1), lengths=(9, 5, 7, 2)):
    """Four rollouts of one prompt, of random tokens."""
    generator = torch.Generator().manual_seed(seed)
    prompt, width = 3, max(lengths)
    ids = torch.randint(4, tiny.VOCABULARY, (len(lengths), prompt + width), generator=generator)
    ids[:, :prompt] = ids[0, :prompt]
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    ids[:, prompt:] = torch.where(mask > 0, ids[:, prompt:], tiny.PAD)
    with torch.no_grad():
        logits = policy(input_ids=ids).logits[:, prompt - 1 : -1]
    batch = RolloutBatch(
        entropy=normalized_entropy(logits, None) * mask, mask=mask, advantages=torch.tensor(advantages),
        groups=torch.zeros(len(lengths), dtype=torch.long), log_vocabulary=math.log(tiny.VOCABULARY),
        rewards=torch.tensor(advantages),
    )  # fmt: skip
    return frozen.Group(ids, prompt, batch, ("",) * len(lengths))


@pytest.fixture(scope="module")
def policy():
    return tiny.with_lora(tiny.model()).eval()


@pytest.fixture(scope="module")
def groups(policy):
    return [group(policy, seed) for seed in range(5)]


@pytest.fixture(scope="module")
def look(policy, groups):
    return gradients.lens(policy, groups, 3)


@pytest.fixture(scope="module")
def found(look, groups):
    plain = gradients.of_rule(look, groups, BASE)
    return {label: gradients.of_rule(look, groups, config, (BASE, plain)) for label, config in ARMS.items()}


def by_reference(policy, seen, config):
    """float64 gradient of Eq. 2, 6 and 9 written out, of one group; without KL."""
    double = tiny.twin(policy)
    scores = frozen.log_probs(double, seen.ids, seen.prompt, 1.0)
    batch, named = seen.batch, {"alpha": config.alpha, "scope": config.scope}
    if config.rule != "cumulative":
        named["weights"] = RULES[config.rule](batch, **named)
    loss = reference_loss(
        scores, scores.detach(), scores.detach(), batch.entropy, batch.mask, batch.advantages, batch.groups, beta=0.0,
        **named,
    )  # fmt: skip
    parameters = [p for p in double.parameters() if p.requires_grad]
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, parameters)])


@pytest.mark.parametrize("label", ARMS)
def test_a_prompt_s_gradient_is_that_of_the_reference_loss(policy, groups, found, label):
    for place, seen in enumerate(groups[:2]):
        wanted = by_reference(policy, seen, ARMS[label])
        mine = torch.from_numpy(found[label][:, place].sum(0)).double()
        assert (mine - wanted).norm() < 1e-5 * wanted.norm()


def test_what_is_taken_from_grpo_is_what_would_be_computed(look, groups, found):
    """Successes weigh alike under GRPO and SA-AH-GRPO, but for the denominator."""
    alone = gradients.of_rule(look, groups[:2], ARMS["SA-AH-GRPO"])
    np.testing.assert_allclose(found["SA-AH-GRPO"][:, :2], alone, rtol=1e-4, atol=1e-6)


def test_slices_are_signs_and_positions(policy, look, groups, found):
    """A slice without its own tokens would still add up to the whole."""
    assert look.slices[0] == ("successes", "tokens 1-2") and look.bins[-1].endswith("+") and len(look.slices) == 6
    seen = groups[0]
    only = seen.batch.mask * (seen.batch.positions <= look.edges[0]) * (seen.batch.advantages > 0)[:, None]
    scores = frozen.log_probs(policy, seen.ids, seen.prompt, 1.0)
    objective = -(only * seen.batch.advantages[:, None] * scores).sum() / seen.batch.mask.sum()
    wanted = torch.autograd.grad(objective, list(look.parameters.values()))
    np.testing.assert_allclose(found["GRPO"][0, 0], torch.cat([g.flatten() for g in wanted]), rtol=1e-4, atol=1e-6)


def test_parameters_without_a_gradient_are_left_out(groups):
    """A fresh adapter's A matrices have none, because B is 0; kept, they would double the memory."""
    fresh = tiny.with_lora(tiny.model(), std=0.0).eval()
    kept = gradients.lens(fresh, groups, 2).parameters
    assert kept and all("lora_B" in name for name in kept)


def test_layers_are_all_of_the_gradient(look):
    layers = look.layers
    assert list(layers) == ["layer 1", "layer 2"]
    size = sum(p.numel() for p in look.parameters.values())
    assert sorted(np.concatenate(list(layers.values()))) == list(range(size))
    owner = [name for name, p in look.parameters.items() for _ in range(p.numel())]
    assert all(".layers.1." in owner[k] for k in layers["layer 2"])


def test_a_rule_s_cosine_with_itself_is_one():
    weights = measures.resamples(5, 50)
    whole = drawn(5)
    values = measures.measure(whole, whole, weights, 2)["cosine"]
    assert values[0] == pytest.approx(1) and np.nanmin(values) == pytest.approx(1)


def test_one_scalar_changes_no_direction_among_failures(look, groups, found):
    """Its failures are GRPO's own times one number per prompt; with successes its direction is another."""
    failures = [sign == "failures" for sign, _ in look.slices]

    def cosine(one, other):
        return (one * other).sum(-1) / np.linalg.norm(one, axis=-1) / np.linalg.norm(other, axis=-1)

    scalar, plain = found["One scalar"], found["GRPO"]
    np.testing.assert_allclose(cosine(scalar[failures].sum(0), plain[failures].sum(0)), 1, atol=1e-6)
    assert cosine(scalar.sum(0), plain.sum(0)).max() < 0.999
    assert cosine(found["SA-AH-GRPO"][failures].sum(0), plain[failures].sum(0)).max() < 0.9999


# --- the numbers -----------------------------------------------------------------------------------------------------


def drawn(prompts, mean=0.5, size=40, seed=0):
    """Gradients whose mean has the norm ``mean`` sqrt(size), and one unit of noise in each of ``size`` directions."""
    return np.random.default_rng(seed).normal(mean, 1.0, (prompts, size))


def test_measures_are_those_of_the_distribution():
    seen = drawn(4000)
    found = {k: v[0] for k, v in measures.measure(seen, seen, np.ones((1, 4000)), 4).items()}
    signal, noise = 0.5 * math.sqrt(40), math.sqrt(40 / 4)
    assert found["norm"] == pytest.approx(signal, rel=0.02) and found["noise"] == pytest.approx(noise, rel=0.02)
    assert found["signal_to_noise"] == pytest.approx(signal / noise, rel=0.03)
    # What steps of four prompts have with the true mean, by drawing them.
    steps = seen.reshape(1000, 4, 40).mean(1)
    along = steps.mean(1).mean() * math.sqrt(40) / math.sqrt((steps**2).sum(1).mean())
    assert found["step_cosine"] == pytest.approx(along, rel=0.02)


def test_noise_adds_nothing_to_a_norm():
    """The plain norm of a mean of 8 prompts would be sqrt(40 / 8) where the truth is 0."""
    squares = [measures._pairs(g @ g.T, np.ones((1, 8)))[0] for g in (drawn(8, 0.0, seed=s) for s in range(300))]
    assert abs(np.mean(squares)) < 4 * np.std(squares) / math.sqrt(300) and np.std(squares) > 0.1


def test_an_interval_holds_the_truth_as_often_as_it_says():
    """Of norms, over 60 draws; a bootstrap that paired a prompt with its own copy would lie above the truth."""
    truth, hits = 0.5 * math.sqrt(40), 0
    for seed in range(60):
        seen = drawn(60, seed=seed)
        series = measures.measure(seen, seen, measures.resamples(60, 300), 4)["norm"]
        made = measures.with_interval(series)
        hits += made.low <= truth <= made.high
    assert hits >= 50


def test_what_is_infinite_or_not_defined_widens_an_interval_and_is_not_left_out():
    """Resamples in which GRPO has no signal are a ratio's upper tail; without them the interval was finite."""
    ratios = np.concatenate([[2.0], np.linspace(1, 3, 90), np.full(10, np.inf)])
    made = measures.with_interval(ratios)
    assert made.estimate == 2.0 and made.low == pytest.approx(1.0, abs=0.1) and made.high == math.inf
    few, many = (np.concatenate([[0.9], np.linspace(0.5, 1, 100 - n), np.full(n, np.nan)]) for n in (5, 6))
    assert measures.with_interval(few).low == pytest.approx(0.51, abs=0.02)
    assert math.isnan(measures.with_interval(many).low) and math.isnan(measures.with_interval(many).high)
    assert study._row("SA", "all", "all", "norm ratio", ratios)["high"] is None


def test_two_measures_without_a_signal_are_not_defined():
    seen = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    found = measures.measure(seen, seen, np.ones((1, 4)), 2)
    assert found["norm"][0] == 0 and np.isnan(found["cosine"][0])
    assert math.isnan(measures.with_interval(found["cosine"]).estimate)


# --- the rollouts ----------------------------------------------------------------------------------------------------


def test_sampling_leaves_the_model_and_the_generator_as_they_were(policy):
    config = BASE.replace(max_completion_tokens=6, reward_threshold=0.0)
    torch.manual_seed(7)
    before, mode = torch.rand(1), policy.training
    torch.manual_seed(7)
    made = frozen.sample(policy, tiny.tokenizer(), [Problem("ab", "1"), Problem("abc", "2")], config, 3, progress=False)
    assert torch.equal(before, torch.rand(1)) and policy.training == mode
    again = frozen.sample(
        policy, tiny.tokenizer(), [Problem("ab", "1"), Problem("abc", "2")], config, 3, progress=False
    )
    assert all(torch.equal(a.ids, b.ids) for a, b in zip(made, again, strict=True)) and len(made) == 2
    for seen in made:
        batch = seen.batch
        logits = policy(input_ids=seen.ids).logits[:, seen.prompt - 1 : -1].detach()
        wanted = normalized_entropy(logits, None) * batch.mask
        torch.testing.assert_close(batch.entropy, wanted, rtol=1e-4, atol=1e-6)
        assert 1 <= batch.lengths.min() and batch.lengths.max() <= 6
        ends = seen.ids[:, seen.prompt :] == tiny.EOS
        assert all(row[: int(n) - 1].sum() == 0 for row, n in zip(ends, batch.lengths, strict=True))


def test_advantages_are_normalised_as_trl_does_it():
    rewards = torch.tensor([1.0, 4.0, 4.0, 7.5])
    wanted = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
    torch.testing.assert_close(frozen.advantages(rewards, 0.15), wanted)
    assert not frozen.advantages(torch.tensor([1.0, 1.1, 1.0, 1.0]), 0.15).any()


# --- the study -------------------------------------------------------------------------------------------------------


def test_a_study_measures_every_rule_whole_and_by_part(policy, tmp_path):
    # Alike, so that their gradients have a mean: that of random tokens is 0.
    groups = [group(policy, advantages=(1.0 + 0.1 * k, -0.4, -0.9, 0.1)) for k in range(12)]
    some = {label: ARMS[label] for label in ("GRPO", "SA-AH-GRPO")}
    rows = study.study(policy, groups, some, bins=2, step=2, progress=False)
    whole = {(r["rule"], r["measure"]): r for r in rows if (r["part"], r["layers"]) == ("all tokens", "all layers")}
    assert whole["GRPO", "cosine"]["estimate"] == 1 and whole["GRPO", "noise ratio"]["estimate"] == 1
    assert whole["SA-AH-GRPO", "noise ratio"]["low"] <= whole["SA-AH-GRPO", "noise ratio"]["high"]
    parts = {r["part"] for r in rows}
    assert {"all tokens", "successes", "failures"} <= parts and sum("tokens" in p for p in parts) == 3
    assert {r["layers"] for r in rows} == {"all layers", "layer 1", "layer 2"}
    path = study.save(tmp_path / "a.json", study.described(groups, BASE, ALPHA), rows)
    read = json.loads(path.read_text(encoding="utf-8"))
    assert read["rows"] == rows and read["settings"]["prompts"] == 12 and read["settings"]["rollouts"] == 48


def test_groups_without_a_signal_are_told_apart():
    policy = tiny.model().eval()
    with pytest.raises(ValueError, match="must differ within a group"):
        gradients.lens(policy, [group(policy, advantages=(0.0, 0.0, 0.0, 0.0))], 2)


# --- the replay ------------------------------------------------------------------------------------------------------

LOGS = Path(__file__).parents[2] / "figures" / "logs"


def rows_of(rows, by, **wanted):
    return [r for r in rows if r["by"] == by and all(r[k] == v for k, v in wanted.items())]


@pytest.fixture(scope="module")
def replayed():
    batches = [group.batch for group in logged.of_micro_models(LOGS) if group.config.scale == "micro-s"]
    arms = replay.replayable(batches, preset("micro-s", "grpo"), 4.0)
    return batches, replay.replay(batches, arms)


def test_a_replay_counts_every_token_once(replayed):
    """By sign, by position and by entropy it is the same tokens."""
    batches, rows = replayed
    total = sum(int(b.lengths[b.advantages != 0].sum()) for b in batches)
    assert rows_of(rows, "all", rule="GRPO", sign="all rollouts")[0]["tokens"] == total > 1000
    for by in ("position", "entropy"):
        tenths = rows_of(rows, by, rule="SA-AH-GRPO", sign="failures")
        whole = rows_of(rows, "all", rule="SA-AH-GRPO", sign="failures")[0]
        assert len(tenths) == 10 and sum(r["tokens"] for r in tenths) == whole["tokens"]
        mean = sum(r["weight"] * r["tokens"] for r in tenths if r["tokens"]) / whole["tokens"]
        assert mean == pytest.approx(whole["weight"], abs=1e-5)


def test_a_replay_s_weights_are_the_logged_ones():
    """What training computed at the time, of the run that trained with that rule."""
    (path,) = LOGS.glob("micro-s-sa-ah-grpo-*")
    config = RunConfig.from_json(path / "config.json")
    rows = read_jsonl(path / "completions.jsonl")
    mine = replay.weights_of([group.batch for group in logged.groups(rows, config)], config)
    wanted = [weight for row in rows if row["advantage"] for weight in row["weights"]]
    assert len(mine) > 100 and np.abs(mine - wanted).max() < 1e-4 and mine.std() > 0.01


def test_a_rule_s_profile_is_its_own(replayed):
    """SA-AH-GRPO spares successes, the prefix mask drops late tokens, the top-entropy mask certain ones."""
    rows = replayed[1]
    early = [r["trained"] for r in rows_of(rows, "position", rule="PPPO prefix mask", sign="all rollouts")]
    assert early[0] > 0.5 and early[-1] == 0 and early == sorted(early, reverse=True)
    assert rows_of(rows, "all", rule="SA-AH-GRPO", sign="successes")[0]["weight"] == 1
    certain = [r["trained"] for r in rows_of(rows, "entropy", rule="Top-entropy mask", sign="failures")]
    assert certain[0] == 0 and certain[-1] > 0.7


def test_overlap_is_jaccard_of_masks_and_blind_to_scale(replayed):
    first, second = np.array([1.0, 1.0, 0.0, 0.0]), np.array([0.0, 3.0, 3.0, 0.0])
    assert replay.overlap(first, second) == pytest.approx(1 / 3, abs=1e-6) and replay.overlap(first, 5 * first) == 1
    assert math.isnan(replay.overlap(first, 0 * first))
    own = rows_of(replayed[1], "overlap", rule="AH-GRPO", bin="AH-GRPO")
    assert own[0]["overlap"] == 1 and rows_of(replayed[1], "overlap", rule="AH-GRPO", bin="GRPO")[0]["overlap"] < 1


def test_rules_that_cannot_act_on_logs_are_left_out(replayed):
    """Logs have no log-probabilities, and HICRA has no n-grams of its own."""
    labels = {r["rule"] for r in replayed[1]}
    assert {"80/20 mask, TRL", "First token only"} <= labels
    assert not any("HICRA" in label for label in labels) and not labels & {
        rulebook.get(name).label for name in ("advantage_reweighting", "tr_grpo", "clip_cov")
    }


def test_the_replay_s_command_says_what_is_missing(tmp_path):
    with pytest.raises(SystemExit, match="No completions.jsonl of a micro model of scale 'micro-s'"):
        replay.main([str(tmp_path)])
