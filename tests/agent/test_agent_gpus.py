"""GPUs: as the driver's library tells of them, as its program does without it, and what they are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexus.agent.adapters.nvml import Card, Load, Nvml, open_nvml, short_name
from nexus.agent.adapters.probe import cpu_model, nvidia_gpus, own_labels
from nexus.launch.model import Gpu


def test_the_driver_tells_of_cards_and_of_their_load(driver: str) -> None:
    nvml = Nvml(driver)
    assert nvml.driver() == "550.54.15"
    assert nvml.cards() == [Card("NVIDIA A100-SXM4-40GB", 42949672960), Card("NVIDIA GeForce RTX 4090", 25757220864)]
    assert nvml.load(0) == Load(87.0, 1_000_000)
    assert nvml.load(1) == Load(0.0, 2_000_000)
    assert nvml.load(7) is None
    nvml.close()


def test_a_node_tells_of_its_gpus_as_job_files_name_them(driver: str) -> None:
    assert nvidia_gpus(driver) == ((Gpu("A100", 42949672960), Gpu("RTX4090", 25757220864)), "550.54.15")


def test_a_library_without_a_driver_is_no_gpu(driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVML_FAKE_BROKEN", "1")
    assert open_nvml(driver) is None
    assert open_nvml(str(tmp_path / "nothing.so")) is None


def test_without_the_library_the_program_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559, 535.104.05'\necho '[Not Found], [N/A], x'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert nvidia_gpus(str(tmp_path / "nothing.so")) == ((Gpu("H100", 81559 * 1024**2),), "535.104.05")
    program.write_text("#!/bin/sh\necho 'Failed to initialize NVML'; exit 9\n")
    assert nvidia_gpus(str(tmp_path / "nothing.so")) == ((), "")


@pytest.mark.parametrize(
    ("told", "short"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA A100 80GB PCIe", "A100"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 NVL", "H100NVL"),
        ("NVIDIA GH200 480GB", "GH200"),
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
        ("NVIDIA GeForce GTX 1080 Ti", "GTX1080Ti"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX6000Ada"),
        ("NVIDIA RTX A6000", "RTXA6000"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("Tesla T4", "T4"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA Graphics", "Graphics"),
        ("NVIDIA GPU", "NVIDIA GPU"),
    ],
)
def test_cards_are_called_as_people_call_them(told: str, short: str) -> None:
    assert short_name(told) == short


def test_the_processor_is_named(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: AMD EPYC  7B13\nflags\t: fpu\n")
    assert cpu_model(tmp_path / "cpuinfo") == "AMD EPYC 7B13"
    assert cpu_model(tmp_path / "nothing") == ""
    labels = own_labels("550.54.15")
    assert labels["nvidia-driver"] == "550.54.15"
    assert labels["arch"] in {"x86_64", "aarch64"}
    assert all(labels.values())
    assert "nvidia-driver" not in own_labels()
