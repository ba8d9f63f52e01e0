"""The friends' measured proofs, one small script each."""
