"""Learners: small networks trained the same way on whatever data they are given, so that only the data
differs.

Importing this package loads torch only when one of its modules is imported.
"""
