"""storyforge makes illustrated books whose characters look the same in every picture."""

__version__ = "0.1.0"
