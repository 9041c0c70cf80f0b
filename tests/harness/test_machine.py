"""The machine's state: NVML through a stand-in, fingerprints that tell machines apart."""

import ctypes
import types

import pytest
import torch
from equiharness.harness.records.machine import Nvml, fingerprint, machine_state, open_nvml


class FakeLibrary:
    """NVML with one GPU; values by function."""

    def __init__(self, values, uuid=b"GPU-1"):
        self.values, self.uuid = values, uuid

    def nvmlInit_v2(self):
        return 0

    def nvmlDeviceGetHandleByUUID(self, name, handle):
        return 0 if name == self.uuid else 1

    def __getattr__(self, name):
        def ask(handle, *words):
            if name not in self.values:
                return 3  # not supported
            words[-1]._obj.value = self.values[name]
            return 0

        return ask


VALUES = {
    "nvmlDeviceGetCurrentClocksThrottleReasons": 0,
    "nvmlDeviceGetPowerUsage": 250_500,
    "nvmlDeviceGetClockInfo": 1980,
    "nvmlDeviceGetTemperature": 61,
}


def gpu(**changes):
    return Nvml(FakeLibrary({**VALUES, **changes}), "GPU-1")


def test_clocks_power_and_temperature_are_read():
    found = machine_state("cuda", gpu())["gpu"]
    assert found == {
        "sm_clock": 1980,
        "memory_clock": 1980,
        "power": 250.5,
        "temperature": 61,
        "throttle_reasons": 0,
    }


@pytest.mark.parametrize(
    ("reasons", "throttled"), [(0x1, False), (0x2, False), (0x4, True), (0x8, True), (0x20, True), (0x40, True)]
)
def test_heat_and_power_throttle_and_idleness_does_not(reasons, throttled):
    assert gpu(nvmlDeviceGetCurrentClocksThrottleReasons=reasons).throttled() is throttled


def test_what_a_gpu_does_not_say_is_missing():
    assert Nvml(FakeLibrary({}), "GPU-1").state()["power"] is None


def test_an_unknown_gpu_is_no_gpu(monkeypatch):
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(uuid="2"), raising=False
    )
    assert open_nvml("cuda", load=lambda name: FakeLibrary(VALUES)) is None
    assert open_nvml("cuda", load=lambda name: FakeLibrary(VALUES, b"GPU-2")) is not None


def test_a_missing_library_is_no_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(uuid="1"))
    assert open_nvml("cuda", load=lambda name: ctypes.CDLL("libno-such-thing.so.1")) is None


def test_load_and_affinity_are_known_without_a_gpu():
    assert "load" in machine_state()


@pytest.mark.parametrize("key", ["processor", "machine", "cores", "python"])
def test_each_part_of_a_machine_tells_it_apart(key):
    assert fingerprint({key: "a"}) != fingerprint({key: "b"})


def test_threads_and_devices_tell_machines_apart_and_commits_do_not():
    one = {"torch": {"threads": 1}, "git": {"commit": "a"}}
    assert fingerprint(one) != fingerprint({"torch": {"threads": 2}})
    assert fingerprint(one) == fingerprint({"torch": {"threads": 1}, "git": {"commit": "b"}})
