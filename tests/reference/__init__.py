"""Independent NumPy implementations that the tests compare the program with."""
