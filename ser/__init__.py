"""Speech emotion recognition experiments whose numbers can be believed."""
