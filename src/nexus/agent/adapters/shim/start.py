"""The program that the agent starts: the rest is imported, and so compiled only once."""

import sys

if __name__ == "__main__":
    sys.path.append(__file__.rpartition("/shim/")[0])  # at the end: nothing there may hide the standard library
    from shim.nursery import serve  # type: ignore[import-not-found]

    sys.exit(serve())
