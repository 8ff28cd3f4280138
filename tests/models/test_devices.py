import pytest
import torch

from refusalscope.errors import ModelLoadError
from refusalscope.models.devices import device_map_of


def machine(monkeypatch: pytest.MonkeyPatch, n_accelerators: int) -> None:
    device = torch.device("cuda") if n_accelerators else None
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_given: device)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: n_accelerators)


@pytest.mark.parametrize("device", ["auto", "cpu", "spread"])
def test_without_accelerator_a_model_stays_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    machine(monkeypatch, 0)
    assert device_map_of(device) is None


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps", "banana", ""])
def test_a_device_that_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    machine(monkeypatch, 0)
    with pytest.raises(ModelLoadError, match=f"--device is '{device}'; this machine has cpu"):
        device_map_of(device)


@pytest.mark.parametrize(
    ("device", "placement"),
    [
        ("auto", {"": "cuda"}),
        ("cpu", None),
        ("spread", "auto"),
        ("cuda", {"": "cuda"}),
        ("cuda:1", {"": "cuda:1"}),
    ],
)
def test_with_accelerators_a_model_goes_where_it_is_told(
    monkeypatch: pytest.MonkeyPatch, device: str, placement: object
) -> None:
    machine(monkeypatch, 2)
    assert device_map_of(device) == placement


def test_an_accelerator_beyond_the_last_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 2)
    with pytest.raises(ModelLoadError, match="this machine has cpu, cuda:0, cuda:1"):
        device_map_of("cuda:2")


def test_an_accelerator_without_float64_is_not_taken_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine(monkeypatch, 1)
    apple = torch.device("mps")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_given: apple)
    for device in ("auto", "cpu", "spread"):
        assert device_map_of(device) is None
    for device in ("mps", "mps:0"):
        with pytest.raises(ModelLoadError, match=f"'{device}', which does not compute in float64"):
            device_map_of(device)
