"""What every communicator must do, whatever carries it."""

from __future__ import annotations

import numpy as np

from ppo_and_friends.distributed.communicator import Communicator


def check(comm: Communicator) -> None:
    """Call every collective and compare with what NumPy gives."""
    size, r = comm.size, comm.rank
    for dtype in (np.float32, np.float64, np.int32, np.int64):
        array = np.arange(6, dtype=dtype).reshape(2, 3) * (r + 1)
        comm.sum_(array)  # sum of r + 1 over the ranks is size (size + 1) / 2
        assert np.array_equal(array, np.arange(6).reshape(2, 3) * (size * (size + 1) // 2)), array
        array = np.array([r, -r, 3], dtype=dtype)
        comm.max_(array)
        assert array.dtype == dtype and array.tolist() == [size - 1, 0, 3], array
    array = np.array([np.nan if r == size - 1 else r, np.inf if r == 0 else 0.0, -np.inf])
    comm.max_(array)
    assert np.isnan(array[0]) and array[1] == np.inf and array[2] == -np.inf, array
    for start in ([True, False], [1.5, 2.5], [7, 8]):
        array = np.array(start) if r == 0 else np.zeros_like(np.array(start))
        comm.broadcast_(array)
        assert array.tolist() == start
    rows = comm.concatenate(np.full((r, 2), r, dtype=np.float32))
    assert rows.dtype == np.float32 and rows.shape == (size * (size - 1) // 2, 2)
    assert rows[:, 0].tolist() == [k for k in range(size) for _ in range(k)]
    assert comm.concatenate(np.array([r])).tolist() == list(range(size))
    assert comm.gather({"rank": r}) == [{"rank": k} for k in range(size)]
    assert comm.broadcast(f"from {r}") == "from 0"
    assert comm.any(r == size - 1) and not comm.any(False)
    assert comm.is_main == (r == 0)
    comm.barrier()
    # The same bits everywhere, though floating-point sums depend on their order.
    noise = np.random.default_rng(r).standard_normal(10_001).astype(np.float32)
    comm.sum_(noise)
    assert len(set(comm.gather(noise.tobytes()))) == 1
    assert comm.meet(5.0)
