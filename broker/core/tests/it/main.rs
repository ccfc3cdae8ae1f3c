//! Behaviour tests of the core, one binary.
