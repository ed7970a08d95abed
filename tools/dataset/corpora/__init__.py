"""The known corpora of emotional speech, one module each: where to get it, its terms, and its recordings as clips."""
