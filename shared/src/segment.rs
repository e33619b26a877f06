//! Names of capture segments.
