"""Active fine-tuning of multi-task policies: which task should the expert demonstrate next?"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("amf-lightning")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"
