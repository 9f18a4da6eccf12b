"""Parts that know no paper."""
