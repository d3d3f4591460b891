//! Bit tests, implicit pointers, segments, flags.
