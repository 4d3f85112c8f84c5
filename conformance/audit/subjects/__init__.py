"""Implementations under audit, and flawed specimens that it must catch."""
