"""Texts made from contents. Every module without a leading underscore is a plugin of that name."""
