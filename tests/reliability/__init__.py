"""Reliability, measured: what an interruption, damage, bad input, a full disk, a crafted file or
another number of workers can do.

Each file measures one point at any size: small in ``make test``, large under the marker ``full``.
``make reliability`` runs the large ones and writes their counts to ``data/results/reliability/``
and ``docs/reliability.md``.
"""
