"""Every value of ``train.jsonl``: key, unit, meaning, and for our own what it is the ratio of. Needs no torch.

TRL and Unsloth choose the names of theirs; ours begin with ``sa_ah/``. The trainer's sums, the notebooks' tables, the
figures' axes and the glossary in the docs are made from this one table.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One logged value.

    Attributes:
        key: in ``train.jsonl``. column: its heading where a table shows it. unit: with its range where it has one.
        meaning: one sentence. form: how a table writes it. axis: a figure's label, where one draws it.
        ratio: names of the two sums of a step that it is the ratio of (0 where the second is 0); None where TRL logs
            it, or the trainer computes it otherwise.
    """

    key: str
    column: str
    unit: str
    meaning: str
    form: str = ".4g"
    ratio: tuple[str, str] | None = None
    axis: str = ""

    def written(self, value: float | None) -> str:
        """A value as tables write it; a dash where there is none."""
        return "—" if value is None else format(value, self.form)


METRICS = {
    metric.key: metric
    for metric in (
        Metric(
            "reward", "r̄", "points, -1 to 7.5", "Mean total reward of the step's rollouts.", ".3f",
            axis="mean reward",
        ),
        Metric(
            "reward_std", "± std", "points",
            "Standard deviation of the total reward over those rollouts; a mean over micro-batches.", ".3f",
        ),
        Metric(
            "rewards/<part>/mean", "reward part", "points",
            "Mean of one reward: correctness, format, presence or steps (Section 3.4).",
        ),
        Metric(
            "kl", "KL", "nats per token",
            "Mean KL from the reference policy. Under Unsloth's trainer on a GPU: the mean over rollouts of each one's "
            "mean.", ".5f", axis="mean KL (nats per token)",
        ),
        Metric(
            "sa_ah/entropy", "H̄", "share of log V, 0 to 1", "Mean over tokens of the normalised entropy (Eq. 3).",
            ".4f", ("entropy", "tokens"), "mean H / log V",
        ),
        Metric(
            "sa_ah/weight", "w̄", "weight", "Mean token weight over all rollouts (Eq. 5 and 8).", ".3f",
            ("weight", "tokens"), "mean weight",
        ),
        Metric(
            "sa_ah/weight_negative", "w̄₋", "weight",
            "Mean token weight over rollouts of negative advantage; 0 where there are none.", ".3f",
            ("negative_weight", "negative_tokens"),
        ),
        Metric(
            "sa_ah/weight_discounted", "w̄ in scope", "weight", "Mean weight of the tokens of rollouts in scope.", ".4f",
            ("discounted_weight", "discounted_tokens"),
        ),
        Metric(
            "sa_ah/weight_target", "Eq. 5 in scope", "weight",
            "What Eq. 5 gives the same tokens at the same alpha. A control's two means agree where it can match.",
            ".4f", ("target_weight", "discounted_tokens"),
        ),
        Metric(
            "sa_ah/negative_fraction", "f₋", "share of rollouts", "Share of rollouts with negative advantage.", ".2f",
            ("negative_rollouts", "rollouts"),
        ),
        Metric(
            "sa_ah/silenced_fraction", "silenced", "share of groups",
            "Share of groups whose rewards spread less than the reward threshold: they carry no signal.", ".2f",
            ("silenced_groups", "groups"),
        ),
        Metric(
            "sa_ah/reward_group_std", "std in groups", "points", "Mean standard deviation of the reward within groups.",
            ".3f", ("group_std", "groups"),
        ),
        Metric(
            "sa_ah/reward_within_variance", "variance in groups", "points squared",
            "Mean variance of the reward within groups: the draw of rollouts.", ".3f", ("group_variance", "groups"),
        ),
        Metric(
            "sa_ah/reward_between_variance", "variance between groups", "points squared",
            "Variance of the groups' mean rewards: the draw of prompts, too. None for a single group.", ".3f",
        ),
        Metric(
            "sa_ah/effective_horizon", "horizon", "tokens",
            "1 / (alpha x mean entropy): after so many tokens the weight has fallen to 1/e. None unless alpha > 0.",
            ".0f",
        ),
        Metric(
            "sa_ah/tap_difference", "tap", "share of the mean entropy",
            "How far the rebuilt top-K entropies are from the loss's own, as a share of their mean; first line of a "
            "top-K run.", ".1e",
        ),
        Metric("completions/mean_length", "len", "tokens", "Mean length of the step's completions.", ".0f"),
        Metric("clip_ratio/region_mean", "clipped", "share", "Share of tokens whose ratio was clipped.", ".3f"),
        Metric("grad_norm", "grad norm", "", "Norm of the gradient before it is clipped.", ".3g"),
        Metric("learning_rate", "rate", "", "Learning rate of the step.", ".2e"),
        Metric("step_time", "s per step", "seconds", "Time of the step.", ".2f"),
    )
}  # fmt: skip
"""{key: Metric}, in the order of the glossary."""
