"""From a fused model and a layout to a picture."""
