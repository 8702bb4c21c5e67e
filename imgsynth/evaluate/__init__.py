"""What synthetic images are worth: scores on real ones with their uncertainty, and scaling laws."""
