"""The network: encoders, recurrent decoder and guided filter. It knows no files."""
