"""The proof: faults are provoked under load, and what became of everything is counted.

    rig       three nats-servers, Postgres with a standby, Valkey, two edges, two of each layer
    workload  clients whose every call is written down, a program outside that counts effects
    fault     kill, pause, power loss, failover, cut, repeat, while the clients go on
    checker   the calls against the final stores: lost, doubled, ghosts, order, open runs

`portal faults list | run NAME | smoke` is the way in; `edge/cli/faults.py`.
"""
