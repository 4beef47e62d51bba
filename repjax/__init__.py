"""Representation learning in JAX: encoders, losses and learners as pure functions.

Rooms are imported by name (``from repjax import losses``), so that importing the package itself
costs nothing beyond JAX.
"""

__version__ = "0.1.0"
