"""The matting loop, its result, and what is laid behind the person."""
