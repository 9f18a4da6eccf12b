"""The models side by side: no paper, and so no model; what is stated of them has facts like those of a paper."""
