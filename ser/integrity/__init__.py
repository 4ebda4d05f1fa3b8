"""Files -> remarks: recordings measured and compared with the official releases."""
