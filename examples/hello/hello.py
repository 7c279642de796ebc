"""Say hello from this machine, and count."""

import os
import platform
import time

import nexus

print(
    f"Hello, {os.environ['WHO']}! This is {platform.node()}, {os.cpu_count()} CPUs, Python {platform.python_version()}."
)
for step in range(int(os.environ["COUNT"])):
    nexus.log({"count": step + 1}, step=step)
    print(f"counted to {step + 1}")
    time.sleep(0.2)
print("Done.")
