"""The parser of commands that have few options and start at once: nothing but Python's own is imported."""

import argparse
from typing import NoReturn

from amf_lightning.errors import InputError


class PlainParser(argparse.ArgumentParser):
    """argparse without its dump of the usage: what is wrong is a line."""

    def error(self, message: str) -> NoReturn:
        """Raises InputError."""
        raise InputError(f"{message[:1].upper()}{message[1:]}. For help: {self.prog} --help")
