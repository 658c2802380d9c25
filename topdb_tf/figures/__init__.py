"""What a run shows: numbers and a picture of them."""
