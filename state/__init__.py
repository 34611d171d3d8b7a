"""State: stores, the tables that operators keep in them, and the bytes of keys and values.

`keys` has the order-preserving form of keys, `codec` the form of values; `registry` knows the classes
that both may build, `exact` which of them MessagePack keeps exactly.
"""
