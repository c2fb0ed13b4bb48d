"""The same as `glassgrad.data`."""

from glassgrad.data import *  # noqa: F403
