//! Tests of the tables and positions.
