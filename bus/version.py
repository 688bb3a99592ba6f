"""The version of the platform: told on the bus, and kept with what its code failed at."""

VERSION = "0.1.0"
