"""Every kind of case."""

from soak import crowds, damaged, disks, fuzzed, killed, killed_ddp, killed_studies, lab, waiting
from soak.case import Kind

KINDS: tuple[Kind, ...] = (
    Kind("fit", killed.killed_fit, killed.prepare, share=4, kills=True),
    Kind("by-hand", waiting.by_hand, share=2, kills=True),
    Kind("waiting", waiting.waiting_run, waiting.prepare, kills=True),
    Kind("lab", lab.killed_lab, lab.prepare, kills=True),
    Kind("damaged", damaged.damaged, damaged.prepare, share=12, inputs=True),
    Kind("fuzzed", fuzzed.fuzzed, share=3, inputs=True),
    Kind("full-disk", disks.full_disk, disks.prepare, inputs=True),
    Kind("read-only", disks.read_only_disk, disks.prepare, kills=True, inputs=True),
    Kind("crowd", crowds.crowd, crowds.prepare, share=2, kills=True, inputs=True),
    Kind("study", killed_studies.killed_study, killed_studies.prepare, kills=True),
    Kind("ddp", killed_ddp.killed_ddp, killed_ddp.prepare, kills=True),
)
