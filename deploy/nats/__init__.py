"""What each process and person may do on the bus, derived from the catalogue.

    roles.py       catalogue + topology + wiring -> roles with exact subjects (pure)
    render.py      roles -> `accounts.conf`, which is checked in and read at every start
    keys.py        the NKey seeds of one installation
    server.py      keys + `accounts.conf` -> the server's configuration

`python -m deploy.nats` renders, `--check` tells whether the file is stale.
"""
