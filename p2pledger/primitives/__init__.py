"""What all floors share: errors, the canonical codec, keys, types, messages, parameters and genesis."""
