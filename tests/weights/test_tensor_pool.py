import os

import pytest

from refusalscope.weights.tensor_pool import n_cores, tensor_pool


def test_a_pool_has_threads_where_the_system_does_not_say_which_cores_are_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert n_cores() == os.cpu_count()
    with tensor_pool() as pool:
        assert pool.submit(lambda: 7).result() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert n_cores() == 1
