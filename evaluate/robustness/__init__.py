"""Finished runs again, on clips with parts missing or made worse."""
