"""Every kind of case."""

from soak import killed, waiting
from soak.case import Kind

KINDS: tuple[Kind, ...] = (
    Kind("fit", killed.killed_fit, killed.prepare, share=4, kills=True),
    Kind("by-hand", waiting.by_hand, share=2, kills=True),
    Kind("waiting", waiting.waiting_run, waiting.prepare, kills=True),
)
