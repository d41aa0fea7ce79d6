"""Detection of the hardware of a machine."""

import pytest

from mmsearch.core.gpu_memory import gpu_memory_bytes


@pytest.mark.parametrize(
    ("script", "size"),
    [
        ("echo 143771", 143771 * 2**20),
        ("echo 'No devices were found'", 0),
        ("exit 9", 0),
    ],
)
def test_gpu_memory_bytes_returns_size_from_driver_or_zero(script, size, tmp_path, monkeypatch):
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert gpu_memory_bytes() == size


def test_gpu_memory_bytes_without_driver_returns_zero(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_memory_bytes() == 0
