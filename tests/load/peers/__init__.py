"""Others on the same durable run: three steps that do nothing, on this disk, in this run.

Installed by `pip` and `npm` into a folder that is thrown away; the platform needs none of them.
Their programs (`*_runs.py`) run in an environment of their own and import nothing of ours.
"""
