"""Surrogates and victims, by name or by instance; transformers is imported when one of its models is built or asked."""
