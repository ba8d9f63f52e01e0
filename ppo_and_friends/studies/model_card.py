"""A model card in Markdown, with the metadata that the Hugging Face hub reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ppo_and_friends.reporting.hyperparameters import hyperparameters
from ppo_and_friends.runs.checkpoint import Checkpoint
from ppo_and_friends.settings.experiment import Experiment

LIBRARY = "ppo-and-friends"

CARD = """\
# PPO on {id}

A policy trained with PPO and Friends for {timesteps:,} timesteps.
{picture}
| | |
|---|---|
| environment | `{id}` |
| mean score | {score} |
| timesteps | {timesteps:,} |
| random seed | {seed} |

## Use

`NAME.zip` stands for the packed file. `load_policy` also accepts a folder with the same files, which is what
a download of this repository gives.

    python main.py --policy NAME.zip --num_test_runs 5 --render
    python main.py -e {launcher} --init_from NAME.zip

```python
from ppo_and_friends import evaluate, load_policy

policy = load_policy("NAME.zip")
print(evaluate(policy, episodes=5).mean)
```

No file holds code or pickled objects: weights are in `tensors.safetensors`, everything else is JSON, and
`manifest.json` has SHA-256 sums.

## Settings

| setting | value |
|---|---|
{settings}

## Versions

{versions}
"""


def model_card(
    experiment: Experiment, checkpoint: Checkpoint, scores: Mapping[str, Any], picture: str | None
) -> str:
    """The card's text.

    Args:
        experiment: The settings it was trained with.
        checkpoint: The policy.
        scores: Of a test, as in ``test_scores.json``; empty: untested.
        picture: File name of the learning curve; None: there is none.
    """
    id = experiment.environment.id
    versions = checkpoint.manifest.get("versions", {})
    settings = hyperparameters(experiment, int(checkpoint.manifest.get("ranks", 1)))
    said = "not tested"
    if scores:
        said = f"{scores['mean']:.2f} ± {scores['std']:.2f} over {len(scores['episodes'])} episodes"
    return _metadata(id, scores) + CARD.format(
        id=id,
        launcher=experiment.name,
        timesteps=checkpoint.timesteps,
        seed=experiment.random_seed,
        score=said,
        picture=f"\n![Learning curve]({picture})\n" if picture else "",
        settings="\n".join(f"| `{name}` | {_cell(value)} |" for name, value in settings.items()),
        versions=", ".join(f"{name} {version}" for name, version in versions.items()) or "unknown",
    )


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|")


def _metadata(id: str, scores: Mapping[str, Any]) -> str:
    """The block of YAML at the top; JSON strings are YAML."""
    tags = ["reinforcement-learning", "deep-reinforcement-learning", "ppo", id]
    lines = [f"library_name: {LIBRARY}", f"tags: {json.dumps(tags)}"]
    if scores:
        value = json.dumps(f"{scores['mean']:.2f} +/- {scores['std']:.2f}")
        lines += [
            "model-index:",
            "- name: PPO",
            "  results:",
            "  - task: {type: reinforcement-learning, name: reinforcement-learning}",
            f"    dataset: {{name: {json.dumps(id)}, type: {json.dumps(id)}}}",
            f"    metrics: [{{type: mean_reward, value: {value}, name: mean_reward, verified: false}}]",
        ]
    return "---\n" + "\n".join(lines) + "\n---\n\n"
