"""What is written out for speed. Each is tested equal to the readable code it stands for."""
