"""Every kind of case."""

from soak import killed
from soak.case import Kind

KINDS: tuple[Kind, ...] = (Kind("fit", killed.killed_fit, killed.prepare, share=4, kills=True),)
