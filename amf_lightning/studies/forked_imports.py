"""What the server of forked runs imports last: everything imported so far stays, and no fork has to search it.

A full collection in a fork touches every object, so that each page of the server's memory is copied: a quarter of a
second, at least once a run.
"""

import gc

gc.freeze()
