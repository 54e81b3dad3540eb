"""Drivers of fabrics: one Protocol, one file per fabric."""
