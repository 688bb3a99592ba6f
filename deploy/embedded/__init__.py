"""Real servers and the platform's processes on one machine, without containers.

    lock -> end orphans -> nats | postgres | valkey | models -> migrate -> handlers -> edge

Every process is a `Spec` (what to run, when it is ready, how it stops), made from one data folder.
A `Supervisor` starts specs, keeps them running and stops them in order; `installation.py` is the
foreground command around it, `stack.py` the same servers for tests. Each child dies with its
supervisor, whatever ended that one, and the next start cleans up what a crash left behind.

Not here: anything about the platform's own work. It needs nothing but URLs, so `--external`
servers, containers and clusters take this package's place.
"""
