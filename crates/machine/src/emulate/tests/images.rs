//! State images.
