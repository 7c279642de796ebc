"""An NVIDIA driver's library with two cards, for tests: compiled from a page of C."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

# The calls of NVML that we make, over two cards; NVML_FAKE_BROKEN takes the driver away.
DRIVER = r"""
#include <stdio.h>
#include <stdlib.h>
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned gpu, memory; } use_t;
static const char *names[] = {"NVIDIA A100-SXM4-40GB", "NVIDIA GeForce RTX 4090"};
static unsigned long long totals[] = {42949672960ull, 25757220864ull};
static int numbers[] = {0, 1};
int nvmlInit_v2(void) { return getenv("NVML_FAKE_BROKEN") ? 9 : 0; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { snprintf(text, size, "550.54.15"); return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **device) {
    if (i > 1) return 2;
    *device = &numbers[i];
    return 0;
}
int nvmlDeviceGetName(void *device, char *text, unsigned size) {
    snprintf(text, size, "%s", names[*(int *)device]);
    return 0;
}
int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
    int i = *(int *)device;
    memory->total = totals[i];
    memory->used = 1000000ull * (i + 1);
    memory->free = memory->total - memory->used;
    return 0;
}
int nvmlDeviceGetUtilizationRates(void *device, use_t *use) {
    if (*(int *)device == 1) return 3; /* not supported, as on a slice */
    use->gpu = 87;
    use->memory = 12;
    return 0;
}
"""


def make_driver(folder: Path) -> str | None:
    """The library's path; None where there is no C compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    (folder / "fake.c").write_text(DRIVER)
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, folder / "fake.c"], check=True)
    return str(library)
