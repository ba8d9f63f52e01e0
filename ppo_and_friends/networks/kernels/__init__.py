"""Versions optimised for speed, used when the setting ``kernels`` is "fast".

| file | replaces |
|---|---|
| `direct_gradients.py`, `array_layers.py`, `tensor_layers.py` | layers and autograd, on the CPU |
| `array_loss.py`, `array_distributions.py` | `ppo/losses.py`, on the CPU |
| `fused_loss.py`, `distribution_gradients.py` | `ppo/losses.py`, differentiated by autograd |
| `fused_layers.py` | `nn.Sequential` and `nn.Linear`, as `networks/layers.py` makes them |
| `inference.py` | `ActorCritic.policy`, called as modules |

Nothing here is needed to understand the algorithm. Each part is tested equal to what it stands for.
"""
