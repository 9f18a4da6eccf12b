"""One module a paper, named like its chapter: what that paper changed, in its order and symbols."""
