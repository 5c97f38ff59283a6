"""GRPO-CARE (arXiv 2506.16141) as an extension of verl.

Importing this package imports neither verl nor torch: verl loads `verl_care.plugin` through its
`verl.plugins` entry point, and a plug-in that imports verl too early loses its registrations.
"""

__version__ = "0.1.0"
