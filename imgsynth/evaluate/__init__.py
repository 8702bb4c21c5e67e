"""What synthetic images are worth: scores on real ones with their uncertainty, scaling laws, and studies of both."""
