"""Contracts of the platform: what may be asked, what is answered, what is announced.

Everything here is declaration. `contract.py` is the vocabulary, one module a domain holds its
words, `catalogue.py` lists the domains, `render/` turns the catalogue into documents. Nothing
here opens a socket or a file: the behaviour lives in `handlers/`, the doors in `edge/`.
"""
