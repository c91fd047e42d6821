"""Every rule of the registry: its hand check, its limits, its invariants, and the loss that it makes."""

import ast
import inspect
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("trl")
import tiny  # noqa: E402
import torch  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from rules_by_loops import LOOPS, covariances, on_columns, rollouts_of, some_grams  # noqa: E402
from trl.trainer.grpo_trainer import GRPOTrainer  # noqa: E402

from sa_ah_lib import rulebook, rules, weighting  # noqa: E402
from sa_ah_lib.rules import RULES, Record, RolloutBatch, rule  # noqa: E402

PUBLISHED = [name for name, record in rulebook.RECORDS.items() if not record.takes_scope]
LOGS = Path(__file__).parents[2] / "figures" / "logs"
LOG_V = math.log(50)
on_stock_trl = pytest.mark.skipif(
    GRPOTrainer.__name__.startswith("Unsloth"), reason="Unsloth has replaced stock TRL in this process; see test_seam"
)
close = torch.testing.assert_close


def random_batch(seed, rows=8, columns=9, prompts=2, **changes):
    """Entropies skewed as a trained model's, lengths from 1 on, both signs and a zero, few ids so that they meet."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda low, high, *shape: torch.randint(low, high, shape, generator=generator)  # noqa: E731
    mask = (torch.arange(columns) < draw(1, columns + 1, rows, 1)).long()
    advantages = torch.randn(rows, generator=generator)
    advantages[draw(0, rows, 1)] = 0.0
    values = {
        "entropy": (torch.rand(rows, columns, generator=generator) ** 3 + 1e-3).clamp(max=1) * mask,
        "mask": mask, "advantages": advantages, "groups": torch.arange(rows) % prompts, "log_vocabulary": LOG_V,
        "rewards": advantages.clone(), "completion_ids": draw(3, 6, rows, columns) * mask,
        "log_probs": torch.rand(rows, columns, generator=generator).log() * mask, "seed": seed,
    }  # fmt: skip
    return RolloutBatch(**{**values, **changes})


def parameters_of(name, batch):
    """What a rule must be given: HICRA has no n-grams of its own."""
    return {"grams": some_grams(batch.completion_ids, batch.mask)} if name == "hicra" else {}


def by_loops(name, batch, **parameters):
    rollouts = rollouts_of(
        batch.entropy.double(), batch.mask, batch.advantages.double(), batch.groups, batch.log_vocabulary,
        batch.completion_ids, None if batch.log_probs is None else batch.log_probs.double(),
    )  # fmt: skip
    return on_columns(LOOPS[name](rollouts, **parameters), batch.mask)


# --- by hand ---------------------------------------------------------------------------------------------------------

HAND = RolloutBatch(
    entropy=torch.tensor([[0.2, 1, 0.4, 0.4], [0.1, 0.1, 2, 0], [0.6, 0.2, 0, 0]]),
    mask=torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]]),
    advantages=torch.tensor([1.0, -0.5, -0.5]),
    groups=torch.zeros(3, dtype=torch.long),
    completion_ids=torch.tensor([[7, 8, 9, 4], [7, 8, 4, 0], [5, 4, 0, 0]]),
    log_probs=torch.tensor([[0.5, 1, 0.1, 0.2], [0.9, 0.5, 0.25, 1], [0.8, 0.4, 1, 1]]).log(),
)
"""Entropies in nats (log V = 1), lengths 4, 3, 2, one success."""
CHECKS = [
    ("forking_tokens", {}, [[0, 1, 0, 0], [0, 0, 1], [0, 0]]),
    ("forking_tokens_trl", {}, [[0, 1, 0, 0], [0, 0, 1], [0, 0]]),  # the threshold is 0.76
    ("forking_tokens", {"keep": 0.3}, [[0, 1, 0, 0], [0, 0, 1], [1, 0]]),
    ("four_quadrants", {}, [[0, 1, 0, 0], [1, 1, 0], [0, 1]]),
    ("four_quadrants", {"successes": "not_high", "failures": "all"}, [[1, 0, 1, 1], [1, 1, 1], [1, 1]]),
    ("four_quadrants", {"successes": "none", "failures": "not_low"}, [[0, 0, 0, 0], [0, 0, 1], [1, 0]]),
    ("entropy_advantage", {}, [[1.08, 1.40, 1.16, 1.16], [0.92, 0.92, 0.50], [0.52, 0.84]]),
    ("gtpo", {}, [[1.1, 1.1, 1.1, 1.1], [1.1714, 1.1333, 1.1], [1.0286, 1.0667]]),
    ("edge", {}, [[1.0889] * 4, [0.7424] * 3, [1.3611] * 2]),
    ("w_reinforce", {}, [[0.1] * 4, [1] * 3, [1] * 2]),
    ("prefix_mask", {"start": 0.5, "end": 0.5}, [[1, 1, 0, 0], [1, 0, 0], [1, 0]]),
    ("lambda_grpo", {"power": -2}, [[0.7477] * 4, [0.9366] * 3, [1.3157] * 2]),
    ("prefix_discount", {}, [[1.5, 1.45, 1.2, 1.1], [1.5, 1.4773, 1.4545], [1.5, 1.125]]),
    ("first_token", {}, [[1, 0, 0, 0], [1, 0, 0], [1, 0]]),
    ("advantage_reweighting", {"share": 0.2}, [[0.9, 1, 0.82, 0.84], [0.98, 0.9, 0.85], [0.96, 0.88]]),
    # 2 (sigmoid(9 * 0.1) - 0.25) = 0.92, so 1; 2 (sigmoid(9 * 0.2) - 0.25) = 1.2163; at 0.25 1.3093.
    ("tr_grpo", {}, [[1.4, 1.4, 1, 1.2163], [1.4, 1.4, 1.3093], [1.4, 1.4]]),
    # "7 8" is shared from the start, "4" from the end: three conflicts each in the first two, one in the third.
    ("gtpo_conflict", {"entropy_scale": 0.0, "entropy_limit": 9},
     [[2 / 3, 2 / 3, 1 / 3, 2 / 3], [0, 0, 0], [1, 0]]),
    # mean entropies 0.5, 0.7333 and 0.4; 1 - 0.1 * 0.5 = 0.95; the second is above 0.7; 1 + 0.1 * 0.4 / 0.5 = 1.08.
    ("gtpo_conflict", {}, [[0.6333, 0.6333, 0.3167, 0.6333], [0, 0, 0], [1.08, 0]]),
    ("hicra", {"grams": [[7, 8], [4]]}, [[1.2, 1.2, 1, 1.2], [0.8, 0.8, 0.8], [1, 0.8]]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "parameters", "wanted"), CHECKS, ids=[f"{n}-{i}" for i, (n, *_) in enumerate(CHECKS)])
def test_a_rule_worked_by_hand(name, parameters, wanted):
    """A rule under the name of another paper's."""
    found = RULES[name](HAND, **parameters)[HAND.tokens]
    close(found, torch.tensor([float(w) for row in wanted for w in row]), rtol=0, atol=6e-5)


def test_every_published_rule_has_a_hand_check():
    assert {name for name, *_ in CHECKS} | {"clip_cov"} == set(PUBLISHED) == set(LOOPS) | {"clip_cov"}


@pytest.mark.parametrize("name", LOOPS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 6), groups=st.integers(1, 3))
def test_a_rule_is_its_equation_token_by_token(name, seed, rows, groups):
    """Rows, groups and columns mixed up in a way that one worked example does not show."""
    batch = random_batch(seed, rows, 8, groups)
    parameters = parameters_of(name, batch)
    close(RULES[name](batch, **parameters).double(), by_loops(name, batch, **parameters), rtol=2e-5, atol=2e-5)


def test_clip_cov_drops_a_few_random_tokens_between_its_bounds():
    """Any token at all, all candidates, or the same one at every step."""
    batch = random_batch(3, rows=40, columns=50)
    rows = (batch.entropy, batch.mask, batch.advantages, batch.groups, LOG_V, None, batch.log_probs)
    covariance = torch.tensor([c for row in covariances(rollouts_of(*rows)) for c in row])
    inside = (covariance > 1) & (covariance < 5)
    drops = []
    for seed in range(8):
        again = replace(batch, seed=seed)
        weights = RULES["clip_cov"](again, ratio=0.01)[again.tokens]
        assert set(weights.tolist()) == {0.0, 1.0} and inside[weights == 0].all()
        assert int((weights == 0).sum()) == int(0.01 * len(covariance)) < int(inside.sum())
        drops.append(tuple((weights == 0).nonzero().flatten().tolist()))
    assert len(set(drops)) == 8
    assert (RULES["clip_cov"](batch)[batch.tokens] == 0).sum() == 1, "never none, as in the authors' code"


def test_tr_grpo_with_the_printed_temperature_is_grpo():
    """The record says why its default is another: a no-op would be compared with GRPO as if it were a method."""
    batch = random_batch(1)
    assert (RULES["tr_grpo"](batch, temperature=9.0) == 1).all()
    weights = RULES["tr_grpo"](random_batch(1, 40, 50))
    assert weights.min() == 1 and weights.max() == pytest.approx(1.4)


def test_nsr_and_psr_are_settings_of_one_rule():
    """Decomposed RLVR: one side of the update at a time."""
    batch = random_batch(2)
    for parameters, sign in (({"successes": 0}, 1), ({"successes": 1, "failures": 0}, -1)):
        weights = RULES["w_reinforce"](batch, **parameters)
        silent = (batch.advantages * sign > 0)[:, None] & batch.tokens
        assert torch.equal(weights == 0, silent) and (weights[~silent] == 1).all()


def test_the_prefix_grows_with_the_training():
    """A schedule that is read once, at the start."""
    batch = random_batch(0, rows=2, columns=40, mask=torch.ones(2, 40, dtype=torch.long))
    kept = [
        RULES["prefix_mask"](random_batch(0, rows=2, columns=40, mask=batch.mask, progress=p)).sum().item() / 2
        for p in (0.0, 0.5, 1.0)
    ]
    assert kept == [6, 10, 14]  # 0.15, 0.25 and 0.35 of 40


# --- limits and invariants -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, record in rulebook.RECORDS.items() if record.neutral])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), groups=st.integers(1, 3))
def test_the_neutral_parameters_are_grpo(name, seed, groups):
    """A rule with a factor left over at strength 0."""
    batch = random_batch(seed, prompts=groups)
    neutral = {**parameters_of(name, batch), **rulebook.get(name).neutral}
    close(RULES[name](batch, **neutral), torch.ones(batch.mask.shape), rtol=0, atol=1e-6)


EDGES = {
    "one group": {"groups": torch.zeros(4, dtype=torch.long)},
    "all failures": {"advantages": -torch.ones(4)},
    "all successes": {"advantages": torch.ones(4)},
    "all silenced": {"advantages": torch.zeros(4)},
    "one token": {"mask": torch.tensor([[1, 0, 0, 0]] * 4)},
    "an empty rollout": {"mask": torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0]])},
    "no token": {"mask": torch.zeros(4, 4, dtype=torch.long)},
    "no entropy": {"entropy": torch.zeros(4, 4)},
    "full entropy": {"entropy": torch.ones(4, 4)},
    "G = 2": {"groups": torch.tensor([0, 0, 1, 1])},
}


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("name", RULES)
def test_a_rule_stays_finite_at_its_edges(name, edge):
    """0 / 0 in a group without successes, without entropy, or cut off everywhere."""
    batch = random_batch(5, rows=4, columns=4, **EDGES[edge])
    parameters = {"grams": ((3,), (4, 4))} if name == "hicra" else {}
    weights = RULES[name](batch, **parameters)
    assert weights.shape == batch.mask.shape and weights.dtype == torch.float32 and torch.isfinite(weights).all()
    assert (weights[~batch.tokens] == 1).all() and not weights.requires_grad


@pytest.mark.parametrize("name", [name for name in RULES if name != "shuffled"])
def test_padding_and_columns_do_not_matter(name):
    """Unsloth lays rows out in other columns than TRL; what is under padding is anything."""
    batch = random_batch(7)
    parameters = parameters_of(name, batch)
    wanted = RULES[name](batch, **parameters)
    junk = lambda x: torch.nn.functional.pad(torch.where(batch.tokens, x, 1), (3, 2), value=1)  # noqa: E731
    mask = torch.nn.functional.pad(batch.mask, (3, 2))
    other, order = rules.left_aligned(
        junk(batch.entropy), mask, batch.advantages, groups=batch.groups + 9, nats=junk(batch.entropy_nats),
        sampled_ids=junk(batch.completion_ids), log_probs=junk(batch.log_probs), log_vocabulary=LOG_V, seed=batch.seed,
    )  # fmt: skip
    weights = RULES[name](other, **parameters)
    close(torch.ones_like(weights).scatter(1, order, weights)[mask.bool()], wanted[batch.tokens], rtol=0, atol=0)


@pytest.mark.parametrize(
    "name", ["gtpo", "edge", "lambda_grpo", "gtpo_conflict", "entropy_advantage", "prefix_discount"]
)
def test_a_rule_of_groups_weighs_each_by_itself(name):
    """Gradient accumulation and processes split a step by groups, and must not change it."""
    batch = random_batch(11, rows=12, prompts=3)
    whole = RULES[name](batch)
    for g in range(3):
        rows = batch.groups == g
        part = {k: getattr(batch, k)[rows] for k in ("entropy", "mask", "advantages", "groups", "completion_ids")}
        close(RULES[name](RolloutBatch(**part, log_vocabulary=LOG_V)), whole[rows], rtol=0, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 2), st.floats(0, 2))
def test_gtpo_hands_out_a1_plus_a2_at_every_place(seed, base, bonus):
    """Its invariant: at each t the mean over the rollouts of one sign that are still going is a1 + a2."""
    batch = random_batch(seed, rows=12, prompts=2)
    weights = RULES["gtpo"](batch, base=base, bonus=bonus)
    for g in (0, 1):
        for sign in (1, -1):
            rows = (batch.groups == g) & (batch.advantages * sign > 0)
            for t in range(batch.mask.shape[1]):
                alive = weights[rows, t][batch.tokens[rows, t]]
                assert not len(alive) or alive.mean().item() == pytest.approx(base + bonus, abs=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_the_bounds_and_means_that_the_sources_promise(seed):
    """Entropy advantage: in [1, 1 + 1/k] and [1 - 1/k, 1]. lambda-GRPO: mean 1 over a group. Prefix discount: falls."""
    batch = random_batch(seed)
    shaped, good = RULES["entropy_advantage"](batch, cap=3), batch.advantages > 0
    assert (shaped[good] >= 1).all() and (shaped[good] <= 1 + 1 / 3 + 1e-6).all()
    assert (shaped[~good] <= 1).all() and (shaped[~good] >= 1 - 1 / 3 - 1e-6).all()
    factors = RULES["lambda_grpo"](batch)[:, 0]
    assert [factors[batch.groups == g].mean().item() for g in (0, 1)] == pytest.approx([1, 1])
    falling = RULES["prefix_discount"](batch)
    assert (falling[:, :1] == 1.5).all() and ((falling.diff(dim=1) <= 1e-6) | ~batch.tokens[:, 1:]).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.1, 0.2, 0.5]))
def test_the_two_80_20_masks_keep_how_many_they_say(seed, keep):
    """The authors keep ceil(rho n) exactly; TRL's interpolated threshold over one process keeps the same."""
    batch = random_batch(seed)
    n = int(batch.tokens.sum())
    first, second = (RULES[name](batch, keep=keep)[batch.tokens] for name in ("forking_tokens", "forking_tokens_trl"))
    assert first.sum() == math.ceil(round(keep * n, 6))
    # One process and no ties: the same tokens, but for rounding where the threshold is a token's own entropy.
    assert (first != second).sum() <= 1


# --- on published rollouts -------------------------------------------------------------------------------------------


def logged_batches():
    """(scale, batch) of every group in figures/logs; ids are numbers of token texts, V is the micro models'."""
    for path in sorted(LOGS.rglob("completions.jsonl")):
        found, scale = {}, json.loads((path.parent / "config.json").read_text(encoding="utf-8"))["scale"]
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            found.setdefault((row["step"], row["prompt"]), []).append(row)
        for rows in found.values():
            width = max(len(row["tokens"]) for row in rows)
            pad = lambda values, width=width: list(values) + [0] * (width - len(values))  # noqa: E731
            texts = sorted({text for row in rows for text in row["tokens"]})
            yield (
                scale,
                RolloutBatch(
                    entropy=torch.tensor([pad(row["entropy"]) for row in rows]),
                    mask=torch.tensor([pad([1] * len(row["tokens"])) for row in rows]),
                    advantages=torch.tensor([row["advantage"] for row in rows]),
                    groups=torch.zeros(len(rows), dtype=torch.long),
                    log_vocabulary=math.log(300),
                    completion_ids=torch.tensor(
                        [pad([1 + texts.index(text) for text in row["tokens"]]) for row in rows]
                    ),
                    rewards=torch.tensor([row["reward"] for row in rows]),
                ),
            )


@pytest.fixture(scope="module")
def logged():
    batches = list(logged_batches())
    assert len(batches) > 20 and sum(int(batch.tokens.sum()) for _, batch in batches) > 5000
    return batches


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_no_no_op_on_published_rollouts(name, logged):
    """A rule that is GRPO on real rollouts would be reported as having no effect."""
    logged = [batch for _, batch in logged]
    if "log_probs" in rulebook.get(name).inputs:
        # Logs hold no log-probabilities; a token of entropy H has, on average, -H.
        logged = [replace(b, log_probs=-b.entropy_nats) for b in logged]
    # Clip-Cov's bounds are for advantages and log-probabilities of long rollouts; few of these reach them.
    parameters = {"low": 0.01} if name == "clip_cov" else {}
    changed = 0
    for batch in logged:
        given = {**parameters, **parameters_of(name, batch)}
        weights = RULES[name](batch, **given)
        # A common factor of all tokens is no more than another step size.
        changed += bool(weights[batch.tokens].std() > 1e-4)
    assert changed > len(logged) / 3


def test_the_two_80_20_masks_differ_as_the_record_says(logged):
    """The numbers in the record: each group alone, and the groups of a scale as the micro-batches of many processes."""
    tokens, differ = 0, {"alone": 0, "pooled": 0}
    for scale, batch in logged:
        pooled = torch.cat([b.entropy_nats[b.tokens] for s, b in logged if s == scale])
        first = RULES["forking_tokens"](batch)[batch.tokens]
        tokens += len(first)
        for how, gather in (("alone", batch.gather), ("pooled", lambda values, pooled=pooled: pooled)):
            second = RULES["forking_tokens_trl"](replace(batch, gather=gather))[batch.tokens]
            differ[how] += int((first != second).sum())
    words = f"{differ['alone']} of {tokens} tokens, and {differ['pooled']} where"
    assert words in rulebook.get("forking_tokens").limits, words


# --- the mechanism ---------------------------------------------------------------------------------------------------


def test_a_rule_is_fifteen_lines():
    """A rule that nobody can read at a glance nobody can check."""
    for entry in RULES.values():
        function = ast.parse(inspect.getsource(entry.weigh)).body[0]
        first = function.body[1].lineno if ast.get_docstring(function) else function.body[0].lineno
        assert function.end_lineno - first + 1 <= 15, entry.record.name


def test_every_record_has_a_function_of_its_parameters_and_no_other():
    """A default that is stated and not used, or a rule that cannot be configured."""
    assert set(RULES) == set(rulebook.RECORDS)
    for name, entry in RULES.items():
        assert list(inspect.signature(entry.weigh).parameters)[1:] == list(rulebook.get(name).defaults)


def test_weighting_names_the_scopes_and_divisors_of_the_rulebook():
    """They are written twice, so that `weighting` needs nothing but torch."""
    assert (weighting.SCOPES, weighting.DENOMINATORS) == (rulebook.SCOPES, rulebook.DENOMINATORS)


@pytest.mark.parametrize("record", rulebook.RECORDS.values(), ids=lambda record: record.name)
def test_a_record_says_what_a_card_needs(record):
    assert record.label and record.equation and record.checked or record.source == "this project"
    assert record.denominator in rulebook.DENOMINATORS and set(record.inputs) <= rulebook.INPUTS.keys()
    assert record.neutral is not None or "makes it GRPO" in record.limits
    for facts in (record.ranges, record.neutral or {}):
        assert facts.keys() <= record.defaults.keys()
    assert record.resolve(record.neutral or {}).keys() == record.defaults.keys()


def test_a_rule_reads_only_what_its_record_names():
    """Costs on the card that are not the rule's."""
    batch = random_batch(4)
    for name, entry in RULES.items():
        watched = Watched(batch)
        entry.weigh(watched, **entry.record.resolve(parameters_of(name, batch)))
        named = set(entry.record.inputs)
        assert watched.read <= named, name
        assert named - {"mask", "gather"} <= watched.read, name


class Watched:
    """A batch that remembers which of ``rulebook.INPUTS`` were read."""

    OF = {"tokens": "mask", "positions": "mask", "lengths": "mask", "entropy_nats": "entropy", "spread": "mask"}

    def __init__(self, batch):
        self._batch, self.read = batch, set()

    def __getattr__(self, name):
        self.read.add(self.OF.get(name, name))
        return getattr(self._batch, name)


def mine(**changes):
    values = {"name": "mine", "label": "Mine", "source": "a test", "equation": "1", "inputs": ("entropy",)}
    return Record(**{**values, "denominator": "tokens", **changes})


@pytest.fixture
def own_names(monkeypatch):
    """Rules of one's own leave no trace in other tests."""
    monkeypatch.setattr(rules.registry, "RULES", dict(RULES))
    monkeypatch.setattr(rulebook.record, "RECORDS", dict(rulebook.RECORDS))


BAD = {
    "wrong shape": (lambda b: b.entropy[:, 0], r"must return a tensor of shape \(B, T\) = \(8, 9\). Got \(8,\)"),
    "a number": (lambda b: 1.0, "must return a tensor .* Got float"),
    "NaN": (lambda b: b.entropy * math.nan, "weights of rule 'mine' must be finite"),
    "negative": (lambda b: b.entropy - 2, "must not be negative unless its record says signed=True. Got -1.99"),
    "a gradient": (lambda b: b.entropy.clone().requires_grad_(), "must be constants of the loss. Got a gradient"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_rule_is_told_what_is_wrong(case, own_names):
    """An error in the middle of a training run, or none at all."""
    weigh, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        rule(mine())(weigh)(random_batch(0))


def test_a_signed_rule_may_be_negative(own_names):
    weights = rule(mine(signed=True))(lambda batch: batch.entropy - 2)(random_batch(0))
    assert (weights < 0).any()


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("gtpo", {"beta": 1.0}, r"'gtpo' has the parameters \['base', 'bonus'\]. Got \['beta'\]"),
        ("gtpo", {"bonus": "much"}, "bonus of rule 'gtpo' must be a finite number. Got 'much'"),
        ("gtpo", {"bonus": True}, "must be a finite number. Got True"),
        ("forking_tokens", {"keep": 1.5}, r"keep of rule 'forking_tokens' must be in \[0.0, 1.0\]. Got 1.5"),
        ("four_quadrants", {"successes": "top"}, "must be one of .*not_high.* Got 'top'"),
        ("hicra", {}, "hicra needs grams"),
        ("hicra", {"grams": 3}, "grams of rule 'hicra' must be a list. Got 3"),
        ("hicra", {"grams": [5, 7]}, r"grams of rule 'hicra' must be lists of int, none of them empty. Got \(5, 7\)"),
        ("hicra", {"grams": [["a"]]}, "must be lists of int"),
        ("hicra", {"grams": [[3], []]}, "must be lists of int"),
    ],
)
def test_bad_parameters_are_refused(name, parameters, message):
    with pytest.raises(ValueError, match=message):
        RULES[name](random_batch(0), **parameters)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"log_probs": None}, "'tr_grpo' needs log_probs, which this batch does not have"),
        ({"advantages": torch.full((8,), math.nan)}, "advantages must be numbers. Got NaN"),
        ({"entropy": torch.full((8, 9), math.nan)}, "entropy must be finite on every completion token"),
    ],
)
def test_a_batch_that_lacks_something_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        RULES["tr_grpo"](random_batch(0, **changes))


def test_names_of_other_rules_are_kept(own_names):
    """A rule of one's own that takes GTPO's name and its published results."""
    with pytest.raises(ValueError, match="a rule named 'gtpo' is there already, of 2508.04349"):
        rule(mine(name="gtpo"))
    first, again = (rule(mine(label=label))(lambda batch: batch.entropy) for label in ("Mine", "Mine, better"))
    assert rules.find("mine") is again is not first, "a notebook's cell may be run again"
    with pytest.raises(ValueError, match="rule must be one of .*gtpo.* Got 'linear'"):
        rules.find("linear")


# --- in the trainer --------------------------------------------------------------------------------------------------


@pytest.fixture
def build(tmp_path, plain_head):
    return lambda policy=None, **rest: tiny.trainer(tmp_path, policy, GRPOTrainer, **rest)


@on_stock_trl
@pytest.mark.parametrize("name", LOOPS)
def test_loss_and_every_gradient_are_the_rules(build, name):
    """A rule that is tested as a function and never reaches the loss, or reaches it through another denominator."""
    made, batch, wanted = tiny.rule_case(build, name, old_noise=0.3)
    assert tiny.worst_error(tiny.loss_and_gradients(made, batch), wanted) < 2e-5


@on_stock_trl
def test_trls_own_top_entropy_loss_is_the_registrys(build, tmp_path):
    """The record says that the two are equal; GRPOTrainer with top_entropy_quantile is the judge."""
    policy = tiny.model()
    made = build(policy, rule="forking_tokens_trl", denominator="tokens", entropy_top_k=None, config={"beta": 0.04})
    plain = GRPOTrainer(
        model=policy, processing_class=tiny.tokenizer(), reward_funcs=tiny.digit_share, train_dataset=tiny.dataset(),
        args=tiny.arguments(tmp_path, beta=0.04, top_entropy_quantile=0.2),
    )  # fmt: skip
    plain.current_gradient_accumulation_steps = 1
    plain.model.train()
    for seed in range(6):
        batch = tiny.with_logps(tiny.micro_batch(seed=seed, left=1, right=2), policy, old_noise=0.3)
        assert tiny.worst_error(tiny.loss_and_gradients(made, batch), tiny.loss_and_gradients(plain, batch)) < 1e-6


@on_stock_trl
def test_the_batch_carries_the_current_policys_log_probabilities(build):
    """Old log-probabilities, another temperature's, or a neighbour's token."""
    made = build(rule="advantage_reweighting", denominator="tokens", config={"temperature": 0.7})
    batch = tiny.micro_batch(left=1, right=2)
    made.compute_loss(made.model, batch)
    wanted, _ = tiny.scores(tiny.twin(made.model), batch, temperature=0.7)
    real = batch["completion_mask"].bool()
    close(made.last_rollouts["log_probs"][real].double(), wanted[real].detach(), rtol=1e-4, atol=1e-5)
    assert torch.equal(made.last_rollouts["sampled_ids"][real], batch["completion_ids"][real])


@on_stock_trl
def test_log_probabilities_are_computed_for_rules_that_ask(build):
    """A pass of the LM head that nobody reads."""
    for name, asked in (("gtpo", False), ("tr_grpo", True)):
        made = build(rule=name, entropy_top_k=None)
        made.compute_loss(made.model, tiny.micro_batch())
        assert ("log_probs" in made.last_rollouts) == asked == (made._tap is not None)


@on_stock_trl
def test_a_rule_of_ones_own_trains(build, own_names):
    """The seam's promise: a function and a record, no subclass."""
    own = rule(mine(defaults={"power": 2.0}, inputs=("entropy", "progress")))(
        lambda batch, power: batch.entropy**power + batch.progress
    )
    made = build(rule=own, rule_parameters={"power": 1}, entropy_top_k=None, config={"max_steps": 2})
    made.train()
    rows = made.last_rollouts
    close(rows["weights"][rows["mask"].bool()], rows["entropy"][rows["mask"].bool()] + 0.5)
    assert len([row for row in made.state.log_history if "sa_ah/weight" in row]) == 2


def test_a_rule_s_own_strength_is_what_a_script_gets():
    """A record's alpha and scope are what its card, the board and the check use."""
    record = Record("strong", "Strong", "x", "1", ("mask",), "group", defaults={"alpha": 2.0, "scope": "all"})
    known = rules.Rule(record, lambda batch, alpha, scope: batch.mask.float())
    assert known.strength(None, None, {}) == (2.0, "all") and known.strength(1.0, "negative", {}) == (1.0, "negative")
    assert rules.find("cumulative").strength(None, None, {}) == (0.5, "negative")
    with pytest.raises(ValueError, match="alpha of rule 'position' must be given beside rule_parameters"):
        rules.find("position").strength(None, None, {"alpha": 0.2})
