"""Layout proofs: where everything will stand, before there is a picture; no model is needed."""
