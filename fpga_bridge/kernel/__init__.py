"""The kernel's C++ as a thing to generate a header for, build, check and break.

The sources themselves are in hls/.
"""
